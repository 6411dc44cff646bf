package apiserver

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/store"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// historyRecord is one generation of an object, for ever.
type historyRecord = world.Generation

// pastEdit is a record of the history where the store holds it.
type pastEdit struct {
	historyRecord
	revision int64
}

// past is what the store keeps of an object's edits, the oldest first, and the store's revision. There is at least one.
func (s *server) past(ctx context.Context, kind string, key manifest.Key) ([]pastEdit, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, s.WriteLimit)
	defer cancel()
	snap, err := s.KV.List(ctx, store.HistoryPrefix(historyKind(kind), key.Namespace, key.Name))
	if err != nil {
		return nil, 0, storeFailed(err)
	}
	if len(snap.Entries) == 0 {
		return nil, 0, notFound(fmt.Sprintf("there is no history of %s %s", kind, key))
	}
	list := make([]pastEdit, len(snap.Entries))
	for i, e := range snap.Entries {
		if err := json.Unmarshal(e.Value, &list[i].historyRecord); err != nil {
			return nil, 0, fmt.Errorf("read %s: %w", e.Key, err)
		}
		list[i].revision = e.Revision
	}
	return list, snap.Revision, nil
}

// generation is the history of an object, and the place of one generation in it.
func (s *server) generation(ctx context.Context, kind string, key manifest.Key, n int64) ([]pastEdit, int, error) {
	list, _, err := s.past(ctx, kind, key)
	if err != nil {
		return nil, 0, err
	}
	i, found := slices.BinarySearchFunc(list, n, func(e pastEdit, n int64) int { return cmp.Compare(e.Generation, n) })
	if !found {
		return nil, 0, notFound(fmt.Sprintf("the history of %s %s has generations %d to %d, and no %d", kind, key, list[0].Generation, list[len(list)-1].Generation, n))
	}
	return list, i, nil
}

// edit describes the edit at place i of a history.
func edit(list []pastEdit, i int) (api.Edit, error) {
	e := list[i]
	out := api.Edit{Generation: e.Generation, Revision: e.revision, At: e.At, By: e.By, Why: e.Why}
	if e.Deleted {
		out.Action = api.Deleted
		return out, nil
	}
	now, err := readImage(e.Object)
	if err != nil {
		return out, fmt.Errorf("read generation %d: %w", e.Generation, err)
	}
	out.UID, out.Action = now.Metadata.UID, api.Updated
	switch {
	case i == 0 && now.created(), i > 0 && list[i-1].Deleted:
		out.Action = api.Created
	case i > 0:
		before, err := readImage(list[i-1].Object)
		if err != nil {
			return out, fmt.Errorf("read generation %d: %w", list[i-1].Generation, err)
		}
		out.Changed = now.changed(before)
	}
	return out, nil
}

// image is what the history needs of a stored object, whatever its kind and version.
type image struct {
	Metadata manifest.Meta  `json:"metadata"`
	Spec     map[string]any `json:"spec"`
}

func readImage(stored []byte) (*image, error) {
	decoder := json.NewDecoder(bytes.NewReader(stored))
	decoder.UseNumber()
	i := new(image)
	return i, decoder.Decode(i)
}

// created reports whether it is the first edit of its object, where the history before it is not kept.
func (i *image) created() bool {
	m := i.Metadata
	return m.CreatedAt != nil && m.UpdatedAt != nil && m.CreatedAt.Equal(*m.UpdatedAt)
}

// changed are the author's fields in which i differs from an image before it, by path.
func (i *image) changed(before *image) []string {
	old, now := before.fields(), i.fields()
	var paths []string
	for path, value := range now {
		if old[path] != value {
			paths = append(paths, path)
		}
	}
	for path := range old {
		if _, there := now[path]; !there {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}

// fields are the author's fields as JSON, by path. A list is one field.
func (i *image) fields() map[string]string {
	all := make(map[string]string)
	for name, value := range i.Metadata.Labels {
		all["metadata.labels."+name] = value
	}
	for name, value := range i.Metadata.Annotations {
		all["metadata.annotations."+name] = value
	}
	addFields(all, "spec", i.Spec)
	return all
}

func addFields(to map[string]string, path string, v any) {
	object, is := v.(map[string]any)
	if !is {
		to[path] = string(rawJSON(v))
	}
	for name, inner := range object {
		addFields(to, path+"."+name, inner)
	}
}

// history answers what is kept of the edits of an object of a kind.
func (s *server) history(kind string) func(context.Context, *Named) (*answer[api.History], error) {
	return func(ctx context.Context, in *Named) (*answer[api.History], error) {
		if err := in.check(); err != nil {
			return nil, err
		}
		list, revision, err := s.past(ctx, kind, in.key())
		if err != nil {
			return nil, err
		}
		body := api.History{Kind: kind, Namespace: in.Namespace, Name: in.Name, Items: make([]api.Edit, len(list)), Revision: revision}
		for i := range list {
			if body.Items[len(list)-1-i], err = edit(list, i); err != nil {
				return nil, err
			}
		}
		return &answer[api.History]{Body: body}, nil
	}
}

type pastInput struct {
	Named
	Generation int64 `path:"generation" minimum:"1" doc:"The object's generation."`
}

// pastObject answers an object of a kind as it was at a generation.
func pastObject[S any](s *server, kind string) func(context.Context, *pastInput) (*answer[api.Past[S]], error) {
	return func(ctx context.Context, in *pastInput) (*answer[api.Past[S]], error) {
		if err := in.check(); err != nil {
			return nil, err
		}
		list, i, err := s.generation(ctx, kind, in.key(), in.Generation)
		if err != nil {
			return nil, err
		}
		body := api.Past[S]{}
		if body.Edit, err = edit(list, i); err != nil || list[i].Deleted {
			return &answer[api.Past[S]]{Body: body}, err
		}
		if body.Object, err = manifest.DecodeStored[S](list[i].Object); err != nil {
			return nil, err
		}
		body.Object.Metadata.Revision = list[i].revision
		return &answer[api.Past[S]]{Body: body}, nil
	}
}
