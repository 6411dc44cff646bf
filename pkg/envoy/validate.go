package envoy

import (
	"errors"
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// message is a proto with the validation that Envoy's API generates for it.
type message interface {
	proto.Message
	ValidateAll() error
}

// maxDuration is the longest time that Envoy takes anywhere: what an int64 of nanoseconds holds.
const maxDuration = time.Duration(math.MaxInt64)

// resource validates m and marshals it once. Nothing that breaks a rule becomes a resource: one bad resource makes Envoy refuse, and
// sometimes lose, the good ones beside it.
func resource(t view.Type, name string, m message, needs ...view.ID) (*view.Resource, error) {
	if err := validate(m); err != nil {
		return nil, err
	}
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	return view.New(t, name, data, needs), nil
}

// validate applies the API's own rules to m, and to every message packed inside it, and those that only Envoy's code knows.
func validate(m message) error {
	return errors.Join(m.ValidateAll(), walk(m.ProtoReflect()))
}

// walk looks for durations, pairs of them, and packed messages anywhere in m.
func walk(m protoreflect.Message) error {
	switch v := m.Interface().(type) {
	case *durationpb.Duration:
		return checkDuration(v)
	case *anypb.Any:
		return checkAny(v)
	}
	faults := []error{checkPair(m.Interface())}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap() && f.MapValue().Message() != nil:
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				faults = append(faults, within(f, walk(v.Message())))
				return true
			})
		case f.IsMap():
		case f.IsList() && f.Message() != nil:
			for i := range v.List().Len() {
				faults = append(faults, within(f, walk(v.List().Get(i).Message())))
			}
		case f.Message() != nil:
			faults = append(faults, within(f, walk(v.Message())))
		}
		return true
	})
	return errors.Join(faults...)
}

// checkPair looks at pairs of times whose order Envoy checks when it builds the thing: it refuses the response, and names no rule.
func checkPair(m proto.Message) error {
	switch v := m.(type) {
	case *routev3.RetryPolicy_RetryBackOff:
		if v.MaxInterval != nil && v.MaxInterval.AsDuration() < v.BaseInterval.AsDuration() {
			return errors.New("max_interval is less than base_interval")
		}
	case *clusterv3.OutlierDetection:
		if v.MaxEjectionTime != nil && v.MaxEjectionTime.AsDuration() < v.BaseEjectionTime.AsDuration() {
			return errors.New("max_ejection_time is less than base_ejection_time")
		}
	}
	return nil
}

func within(f protoreflect.FieldDescriptor, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", f.Name(), err)
}

func checkDuration(d *durationpb.Duration) error {
	if err := d.CheckValid(); err != nil {
		return err
	}
	if d.Seconds < 0 || d.Nanos < 0 {
		return fmt.Errorf("duration %v is negative", d.AsDuration())
	}
	if d.Seconds > int64(maxDuration/time.Second) {
		return fmt.Errorf("duration of %d seconds is too long", d.Seconds)
	}
	return nil
}

func checkAny(a *anypb.Any) error {
	if a.GetTypeUrl() == "" && len(a.GetValue()) == 0 {
		return nil // a filter that is switched on says no more
	}
	inner, err := a.UnmarshalNew()
	if err != nil {
		return err
	}
	m, ok := inner.(message)
	if !ok {
		return walk(inner.ProtoReflect()) // a well-known type has no rules of its own
	}
	return validate(m)
}

// pack puts m in an Any, deterministically: Envoy compares packed messages by their bytes. m must be made by this package, so that
// it always marshals.
func pack(m proto.Message) *anypb.Any {
	a := new(anypb.Any)
	if err := anypb.MarshalFrom(a, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		panic(fmt.Sprintf("pack %T: %v", m, err)) // only invalid UTF-8, which validation of manifests keeps out
	}
	return a
}
