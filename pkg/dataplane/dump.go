package dataplane

import (
	"encoding/json"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
)

// JSON is the resource as Envoy's /config_dump shows it, with its type.
func (r *Resource) JSON() (json.RawMessage, error) {
	return protojson.MarshalOptions{UseProtoNames: true}.Marshal(&anypb.Any{TypeUrl: r.ID.Type.URL(), Value: r.Body})
}
