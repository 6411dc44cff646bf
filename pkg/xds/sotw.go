package xds

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// form is how the requests and responses of one conversation are written. What is said, and when, the state decides for both
// alike.
type form struct {
	world  bool // of the state of the world: see state.world
	fields fields
	frame  func(*response) *frame
}

var (
	deltaForm = form{fields: deltaFields, frame: toDelta}
	worldForm = form{world: true, fields: worldFields, frame: toWorld}
)

func (f form) name() string {
	if f.world {
		return FormSotW
	}
	return FormDelta
}

// worldFields are those of DiscoveryRequest, which names all that is wanted each time.
var worldFields = fields{node: 2, wanted: 3, url: 4, nonce: 5, detail: 6}

// receive takes the next request.
func (f form) receive(g grpc.ServerStream, shared *rosters) (*incoming, error) {
	in := &incoming{fields: f.fields, rosters: shared}
	if err := g.RecvMsg(in); err != nil {
		return nil, err
	}
	return in, in.err
}

// toWorld writes a response of the state-of-the-world dialect. Its resources are the tails of the same shared bytes.
func toWorld(r *response) *frame {
	buffers := r.resources(func(res *view.Resource) []byte { return res.Sotw })
	return &frame{buffers: append(buffers, mem.SliceBuffer(r.tail(0)))}
}

// whole reports whether a response of the state of the world is all there is of a type, so that what is not in it is gone. Of the
// other types each resource stands for itself, and none can be said to be gone.
func whole(t view.Type) bool { return t == view.LDS || t == view.CDS || t == view.SRDS }

// differ turns all that is wanted into what is new and what is wanted no more. Names that are sent once more, with no answer under
// way, ask for their resources again.
func (s *sub) differ(q request) request {
	q.subscribe, q.unsubscribe = nil, nil
	before := s.said
	switch s.said = q.list; {
	case q.list == nil:
	case q.list.is(before):
		return q
	case !s.open:
		q.subscribe = q.wanted
		return q
	}
	names := make(map[string]bool, len(q.wanted))
	for _, name := range q.wanted {
		names[name] = true
	}
	wild := names["*"] || len(names) == 0 && wildcardByDefault(q.typ) && (!s.open || s.wild && s.names.Len() == 0)
	delete(names, "*")
	if wild && !s.wild {
		q.subscribe = append(q.subscribe, "*")
	}
	if !wild && s.wild {
		q.unsubscribe = append(q.unsubscribe, "*")
	}
	view.Diff(nil, s.names, func(_, r *view.Resource) {
		if !names[r.Name] {
			q.unsubscribe = append(q.unsubscribe, r.Name)
		}
	})
	for name := range names {
		if s.names.Get(name) == nil {
			q.subscribe = append(q.subscribe, name)
		}
	}
	return q
}

// repeated reports whether q, of the state of the world, says nothing but what the proxy said before: it asks for all of it again.
func (s *sub) repeated(q request) bool {
	return s.open && q.nonce != "" && !q.rejected && len(q.subscribe)+len(q.unsubscribe) == 0 && !s.wild && !s.underWay(q.nonce)
}

func (s *sub) underWay(nonce string) bool {
	for _, f := range s.flights {
		if f.nonce == nonce {
			return true
		}
	}
	return false
}

// complete is all that a response must hold that says items of a whole type: what the proxy is to keep, beside them.
func (s *sub) complete(items []item) []*view.Resource {
	said := make(map[string]*view.Resource, len(items))
	for _, it := range items {
		said[it.name] = it.res
	}
	var set []*view.Resource
	for _, it := range items {
		if it.res != nil {
			set = append(set, it.res)
		}
	}
	keep := func(name string) {
		if _, there := said[name]; there {
			return
		}
		r := s.holds(name)
		if _, tried := s.force[name]; tried || r != nil && unknown(r) {
			r = s.acked.Get(name) // or a rejection of this response would say nothing of items
		}
		if r != nil && !unknown(r) {
			set = append(set, r)
		}
	}
	view.Diff(nil, s.sent, func(_, r *view.Resource) {
		if s.has(r.Name) {
			keep(r.Name)
		}
	})
	return set
}

// silence books what can't be said in the state of the world: that a resource of a type that is not whole is gone, or never was.
func (s *sub) silence(items []item) (rest []item) {
	var gone, told []view.Change
	for _, it := range items {
		if it.res != nil {
			rest = append(rest, it)
			continue
		}
		delete(s.force, it.name)
		switch {
		case !it.echo:
			gone = append(gone, view.Change{Name: it.name})
		case it.told != nil:
			told = append(told, view.Put(it.told)) // or what was rejected would be sent again
		}
	}
	s.sent, s.acked = s.sent.With(gone).With(told), s.acked.With(gone)
	return rest
}
