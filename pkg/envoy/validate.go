package envoy

import (
	"errors"
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
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
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	if err := validate(m, data); err != nil {
		return nil, err
	}
	return view.New(t, name, data, needs), nil
}

// validate applies the API's own rules to m, of which data are the bytes, and to every message packed inside it, and those that only
// Envoy's code knows.
func validate(m message, data []byte) error {
	return errors.Join(m.ValidateAll(), scan(data, m.ProtoReflect().Descriptor()))
}

// scan looks for durations, pairs of them, and packed messages anywhere in the bytes of a message: what is not there costs nothing.
func scan(data []byte, of protoreflect.MessageDescriptor) (fault error) {
	switch of.FullName() {
	case "google.protobuf.Duration":
		return checkDuration(data)
	case "google.protobuf.Any":
		return checkAny(data)
	case "envoy.config.route.v3.RetryPolicy.RetryBackOff":
		fault = checkPair(data, new(routev3.RetryPolicy_RetryBackOff))
	case "envoy.config.cluster.v3.OutlierDetection":
		fault = checkPair(data, new(clusterv3.OutlierDetection))
	}
	for len(data) > 0 {
		number, typ, n := protowire.ConsumeField(data)
		if n < 0 {
			return errors.Join(fault, protowire.ParseError(n))
		}
		field := data[:n]
		if data = data[n:]; typ != protowire.BytesType {
			continue
		}
		f := of.Fields().ByNumber(number)
		if f == nil || f.Message() == nil {
			continue
		}
		_, _, tag := protowire.ConsumeTag(field)
		value, _ := protowire.ConsumeBytes(field[tag:])
		if err := scan(value, f.Message()); err != nil {
			fault = errors.Join(fault, fmt.Errorf("%s: %w", f.Name(), err))
		}
	}
	return fault
}

// checkPair looks at pairs of times whose order Envoy checks when it builds the thing: it refuses the response, and names no rule. m is empty,
// for what data are the bytes of.
func checkPair(data []byte, m proto.Message) error {
	if err := proto.Unmarshal(data, m); err != nil {
		return err
	}
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

func checkDuration(data []byte) error {
	d := new(durationpb.Duration)
	if err := proto.Unmarshal(data, d); err != nil {
		return err
	}
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

func checkAny(data []byte) error {
	a := new(anypb.Any)
	if err := proto.Unmarshal(data, a); err != nil {
		return err
	}
	if a.GetTypeUrl() == "" && len(a.GetValue()) == 0 {
		return nil // a filter that is switched on says no more
	}
	inner, err := a.UnmarshalNew()
	if err != nil {
		return err
	}
	m, ok := inner.(message)
	if !ok {
		return scan(a.Value, inner.ProtoReflect().Descriptor()) // a well-known type has no rules of its own
	}
	return validate(m, a.Value)
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
