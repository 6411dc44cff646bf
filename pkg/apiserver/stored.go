package apiserver

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// readOld takes apart what the store holds of an object.
func (s *step) readOld() error {
	if s.old.Revision == 0 {
		return nil
	}
	var err error
	switch s.kind {
	case policy.Kind:
		if s.oldPolicy, err = manifest.DecodeStored[policy.Spec](s.old.Value); err == nil {
			s.oldMeta = s.oldPolicy.Metadata
		}
	case policy.GuardrailKind:
		if s.oldGuardrail, err = manifest.DecodeStored[policy.GuardrailSpec](s.old.Value); err == nil {
			s.oldMeta = s.oldGuardrail.Metadata
		}
	case endpointKind:
		var e *catalog.Endpoint
		if e, err = world.DecodeEndpoint(world.EndpointKey{Service: s.key, ID: s.id}, s.old.Value); err == nil {
			s.oldLease = e.Lease
		} else {
			err = nil // a write replaces it, a removal removes it, whatever it is
		}
	case catalog.Kind:
		if s.oldService, err = manifest.DecodeStored[catalog.ServiceSpec](s.old.Value); err == nil {
			s.oldMeta = s.oldService.Metadata
		}
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", s.old.Key, err)
	}
	s.oldMeta.Revision = s.old.Revision
	s.lastGen = s.oldMeta.Generation
	return nil
}

// settle decides what a step does and how its object will look.
func (s *step) settle(now time.Time, who string) error {
	switch {
	case s.removes() && s.old.Revision == 0:
		s.action, s.generation = api.Unchanged, s.lastGen
		return nil
	case s.removes():
		s.action, s.generation = api.Deleted, s.lastGen+1
		return nil
	case s.kind == endpointKind:
		return s.settleEndpoint()
	}
	s.action = api.Created
	if s.old.Revision > 0 {
		same, err := s.same()
		if err != nil {
			return err
		}
		if same {
			s.action, s.generation = api.Unchanged, s.lastGen
			s.stamp(s.oldMeta)
			return nil
		}
		s.action = api.Updated
	}
	s.generation = s.lastGen + 1
	meta := manifest.Meta{UID: s.oldMeta.UID, Generation: s.generation, CreatedAt: s.oldMeta.CreatedAt, UpdatedAt: &now, UpdatedBy: who}
	if s.action == api.Created {
		meta.UID, meta.CreatedAt = strings.ToLower(rand.Text()[:16]), &now
	}
	s.stamp(meta)
	return s.encode()
}

// same reports whether the author's part is what is stored already.
func (s *step) same() (bool, error) {
	m, old := s.meta(), s.oldMeta
	if !maps.Equal(m.Labels, old.Labels) || !maps.Equal(m.Annotations, old.Annotations) {
		return false, nil
	}
	var specs [2]any
	switch {
	case s.policy != nil:
		specs = [2]any{s.policy.Spec, s.oldPolicy.Spec}
	case s.guardrail != nil:
		specs = [2]any{s.guardrail.Spec, s.oldGuardrail.Spec}
	default:
		specs = [2]any{s.service.Spec, s.oldService.Spec}
	}
	fresh, err := json.Marshal(specs[0])
	if err != nil {
		return false, err
	}
	stored, err := json.Marshal(specs[1])
	return bytes.Equal(fresh, stored), err
}

// stamp sets the server's part of the metadata.
func (s *step) stamp(from manifest.Meta) {
	s.change.renew()
	m := s.meta()
	m.UID, m.Revision, m.Generation = from.UID, from.Revision, from.Generation
	m.CreatedAt, m.UpdatedAt, m.UpdatedBy = from.CreatedAt, from.UpdatedAt, from.UpdatedBy
}

// encode fills in the stored form. Fields of a newer version survive that the stored object has, or the one to which it goes back.
func (s *step) encode() (err error) {
	beneath := s.old.Value
	if s.image != nil {
		beneath = s.image
	}
	switch {
	case s.policy != nil:
		s.value, err = encodeOver(s.policy, beneath)
	case s.guardrail != nil:
		s.value, err = encodeOver(s.guardrail, beneath)
	default:
		s.value, err = encodeOver(s.service, beneath)
	}
	return err
}

func encodeOver[S any](o *manifest.Object[S], old []byte) ([]byte, error) {
	fresh, err := manifest.Encode(o)
	if err != nil || old == nil {
		return fresh, err
	}
	return manifest.KeepUnknown[S](old, fresh)
}

func (s *step) settleEndpoint() error {
	value, err := world.EncodeEndpoint(&catalog.Endpoint{Service: s.key, ID: s.id, Spec: *s.endpoint, Lease: s.lease})
	if err != nil {
		return err
	}
	s.value = value
	switch {
	case s.old.Revision == 0:
		s.action = api.Created
	case bytes.Equal(value, s.old.Value):
		s.action = api.Unchanged
	default:
		s.action = api.Updated
	}
	return nil
}
