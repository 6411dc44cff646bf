package policy

// Hedge sends a second try while the first may still answer.
type Hedge struct {
	Disabled        *bool `json:"disabled,omitempty" doc:"Clears the hedging that less specific policies set." scope:"route" effect:"in place" bwdefault:"false"`
	Observe         *bool `json:"observe,omitempty" doc:"Counts what this section would do, and does nothing. It takes the place of nothing that is enforced." scope:"route" effect:"in place" bwdefault:"false"`
	OnPerTryTimeout *bool `json:"onPerTryTimeout,omitempty" doc:"A try that exceeds timeout.perTry goes on beside the next one, and the first good answer counts. Takes its tries from retry.numRetries; what retry.methods keeps from being sent twice is not hedged." scope:"route" effect:"in place" bwdefault:"false (Envoy)"`
}
