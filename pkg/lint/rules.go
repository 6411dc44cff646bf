package lint

// Rule is one thing that lint looks for.
type Rule struct {
	Code     string
	Severity Severity // the worst it may have
	What     string   // one line
}

// The codes of the findings. They are stable: annotations and programs may name them.
const (
	TriesExceedRequest  = "tries-exceed-request"
	OuterTryEndsFirst   = "outer-try-ends-first"
	ThinMargin          = "thin-margin"
	AttemptsMultiply    = "attempts-multiply"
	RetriedTwice        = "retried-twice"
	RetryUnsafe         = "retry-unsafe-methods"
	RetryClientErrors   = "retry-client-errors"
	BudgetAndMaxRetries = "budget-and-max-retries"
	NeverEjects         = "never-ejects"
	TooFewHosts         = "too-few-hosts"
	PanicUndoesEjection = "panic-undoes-ejection"
	NewHostsTakeNoCall  = "new-hosts-take-no-call"
	BlamesDependencies  = "blames-dependencies"
	EjectsFor429        = "ejects-for-429"
	NarrowerThanNext    = "narrower-than-next"
	VolumeNeverReached  = "volume-never-reached"
	EjectionRoundedUp   = "ejection-rounded-up"
	LimitOfZero         = "limit-of-zero"

	BreakerWithoutFallback = "breaker-without-fallback"
	StallNeverFallsBack    = "stall-never-falls-back"
	FullSkipsFallback      = "full-skips-fallback"
	BudgetBesideFallback   = "budget-beside-fallback"
	RetriesStarveFallback  = "retries-starve-fallback"
	FallbackToItself       = "fallback-to-itself"

	ObservedInVain = "observed-in-vain"

	FaultLeftOn  = "fault-left-on"
	FaultHitsAll = "fault-hits-all"

	MatchesNothing = "matches-nothing"
	Shadowed       = "shadowed"
)

// Rules are all rules, in the order of the documentation.
func Rules() []Rule {
	return []Rule{
		{TriesExceedRequest, Info, "the tries and the pauses between them take longer than the call may"},
		{OuterTryEndsFirst, Warning, "a try ends before the call that it waits for may"},
		{ThinMargin, Info, "a call may take nearly all the time of the try that waits for it"},
		{AttemptsMultiply, Warning, "along a path of calls one failure becomes more than ten tries"},
		{RetriedTwice, Warning, "two hops in a row retry the same failure"},
		{RetryUnsafe, Warning, "methods that change something are sent again though the server may have seen them"},
		{RetryClientErrors, Warning, "answers that say the request is wrong are retried"},
		{BudgetAndMaxRetries, Warning, "retry.budget and limits.maxRetries are both set"},
		{NeverEjects, Error, "with the hosts there are no host can ever be ejected"},
		{TooFewHosts, Warning, "a detector needs more hosts than there are"},
		{PanicUndoesEjection, Warning, "traffic goes back to ejected hosts before maxEjectionPercent is reached"},
		{NewHostsTakeNoCall, Info, "while all hosts are new calls fail, until the first health check passes"},
		{BlamesDependencies, Warning, "a host is ejected for what its own dependencies did"},
		{EjectsFor429, Warning, "a host is ejected for asking for less load"},
		{VolumeNeverReached, Warning, "a detector waits for more calls than a rate limit lets through"},
		{EjectionRoundedUp, Info, "a host stays out for longer than twice what is written"},
		{BreakerWithoutFallback, Warning, "a breaker can take a service away from several others, and nothing answers in its place"},
		{StallNeverFallsBack, Warning, "a fallback service never gets a call that hangs"},
		{FullSkipsFallback, Info, "what a limit refuses does not go to the fallback service"},
		{BudgetBesideFallback, Info, "a retry budget counts for nothing beside a fallback service"},
		{RetriesStarveFallback, Warning, "limits.maxRetries also bounds the calls that a fallback service gets"},
		{FallbackToItself, Warning, "a call falls back to where it has failed"},
		{LimitOfZero, Warning, "a limit of 0 lets nothing through"},
		{NarrowerThanNext, Warning, "a hop lets fewer calls through than the one behind it"},
		{ObservedInVain, Info, "a section observes where the same is enforced"},
		{FaultLeftOn, Warning, "calls fail on purpose for longer than anybody watches"},
		{FaultHitsAll, Warning, "calls of every caller fail on purpose"},
		{MatchesNothing, Warning, "a policy covers no call there is"},
		{Shadowed, Warning, "more specific policies override everything that a policy says"},
	}
}
