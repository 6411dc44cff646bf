package policy

// ErrorMapping says in which words the proxy tells that no answer could be had.
type ErrorMapping struct {
	Disabled *bool `json:"disabled,omitempty" doc:"Clears the mapping that less specific policies set: the proxy answers 503 for nearly everything." scope:"route" effect:"in place" bwdefault:"false"`
	Observe  *bool `json:"observe,omitempty" doc:"Counts what this section would do, and does nothing. It takes the place of nothing that is enforced." scope:"route" effect:"in place" bwdefault:"false"`
	Gateway  *bool `json:"gateway,omitempty" doc:"Where no answer of the service can be had, the proxy answers 504 if time is the reason and 502 if anything else is, with the reason in x-breakwater-reason. What the service answers itself stays as it is." scope:"route" effect:"in place" bwdefault:"false (Envoy)"`
}
