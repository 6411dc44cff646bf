package xds

import "github.com/breakwater-mesh/breakwater/pkg/world"

// Report keeps what a proxy says that it has ejected, hosts by cluster, until its stream ends or it says something else. False: no stream is
// that proxy's, or more than one is. Ejected must not be changed any more.
func (s *Server) Report(id, namespace, service string, ejected map[string]int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	streams := s.ids[id]
	if len(streams) != 1 || streams[0].id.key.Namespace != namespace || streams[0].id.key.Service != service {
		return false
	}
	streams[0].ejected = ejected
	return true
}

// Ejected is what the connected proxies of each class say that they have ejected, hosts by cluster, one entry for each proxy: nil where it
// does not say. The maps must not be changed.
func (s *Server) Ejected() map[world.ClassKey][]map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[world.ClassKey][]map[string]int)
	for st := range s.streams {
		all[st.id.key] = append(all[st.id.key], s.saidBy(st))
	}
	return all
}

// said is what each of streams says.
func (s *Server) said(streams []*stream) []map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]map[string]int, len(streams))
	for i, st := range streams {
		all[i] = s.saidBy(st)
	}
	return all
}

// saidBy is nothing where a second stream has come with the same id: nobody knows which of the two it was. mu is held.
func (s *Server) saidBy(st *stream) map[string]int {
	if len(s.ids[st.id.node]) > 1 {
		return nil
	}
	return st.ejected
}
