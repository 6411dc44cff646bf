package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakwater-mesh/breakwater/pkg/api"
)

// waiting is how a delivery is waited for.
type waiting struct {
	wanted   bool
	timeout  time.Duration
	minAcked int
}

// undelivered says that a revision is not where it should be.
type undelivered struct{ text string }

func (e *undelivered) Error() string { return e.text }

const (
	defaultTimeout = time.Minute
	mostOffline    = 10 // so many offline proxies are named
)

// flags say how to wait; when is the beginning of what they say.
func (o *waiting) flags(cmd *cobra.Command, when string) {
	cmd.Flags().DurationVar(&o.timeout, "timeout", defaultTimeout, when+"how long to wait for the proxies")
	cmd.Flags().IntVar(&o.minAcked, "min-acked", 0, when+"wait also until so many proxies have accepted it")
}

// waitFlags let a write wait for the proxies.
func (o *waiting) waitFlags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.wanted, "wait", false, "wait until every connected proxy that it concerns has accepted it; 7 if one rejects it, or time is over")
	o.flags(cmd, "with --wait: ")
}

// check refuses what can't be meant. Changed says which flags were given.
func (o *waiting) check(cmd *cobra.Command, needsWait bool) error {
	for _, name := range []string{"timeout", "min-acked"} {
		if needsWait && !o.wanted && cmd.Flags().Changed(name) {
			return usagef("--%s belongs to --wait", name)
		}
	}
	switch {
	case o.timeout <= 0:
		return usagef("--timeout %s: want a time above 0", o.timeout)
	case o.minAcked < 0:
		return usagef("--min-acked %d: want 0 or more", o.minAcked)
	}
	return nil
}

// checkWrite is check for a write that may be a dry run.
func (o *waiting) checkWrite(cmd *cobra.Command, dryRun bool) error {
	if o.wanted && dryRun {
		return usagef("--wait: a dry run writes nothing to wait for")
	}
	return o.check(cmd, true)
}

func (a *app) waitCommand() *cobra.Command {
	var revision int64
	var o waiting
	cmd := &cobra.Command{
		Use:   "wait --revision N",
		Short: "Wait until every connected proxy that a revision concerns has accepted it",
		Long: `Wait until every connected proxy that a revision concerns has accepted it. Proxies that are offline are not waited for.
Exit code 0: all have, or none is concerned, which is said. 7: one rejected it or something newer in its place, or it can't be built, or time is over, or fewer than
--min-acked have accepted it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if revision < 1 {
				return usagef("--revision: want the revision of a write, 1 or more")
			}
			if err := o.check(cmd, false); err != nil {
				return err
			}
			return a.await(cmd.Context(), revision, o)
		},
	}
	cmd.Flags().Int64Var(&revision, "revision", 0, "the revision, as apply and delete print it")
	o.flags(cmd, "")
	a.outputFlag(cmd, "text", "json")
	return cmd
}

// How long one request waits: shorter where somebody looks on.
const (
	onePoll  = 30 * time.Second
	seenPoll = 400 * time.Millisecond
)

// await waits for a revision and says what came of it. Revision 0 is that of a write that found nothing to write or delete.
func (a *app) await(ctx context.Context, revision int64, o waiting) error {
	if revision == 0 {
		a.notef("nothing was written, so that nothing is waited for\n")
		return nil
	}
	end := time.Now().Add(o.timeout)
	watched, poll := terminal(a.Err), onePoll
	if watched {
		poll = seenPoll
	}
	for {
		left := max(time.Until(end), time.Millisecond)
		d, err := a.client.Delivery(ctx, api.DeliveryQuery{Revision: revision, Wait: min(left, poll), MinAcked: o.minAcked})
		if err != nil {
			return fmt.Errorf("wait for revision %d: %w", revision, err)
		}
		if watched {
			a.notef("\r\x1b[K%d/%d proxies acked", d.Acked, d.Concerned)
		}
		if d.Done(o.minAcked) || !time.Now().Before(end) {
			if watched {
				a.notef("\r\x1b[K")
			}
			return a.delivered(d, o)
		}
	}
}

// terminal reports whether somebody looks at w.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// delivered says what came of d; its error is an exit code of 7.
func (a *app) delivered(d *api.Delivery, o waiting) error {
	if a.output == "json" {
		if err := a.printJSON(d); err != nil {
			return err
		}
	}
	switch {
	case d.State == api.DeliveryQuarantined:
		return &undelivered{fmt.Sprintf("revision %d is quarantined: %s", d.Revision, d.Message)}
	case d.State == api.DeliveryRejected:
		return &undelivered{fmt.Sprintf("revision %d is rejected: %s", d.Revision, d.Message)}
	case d.State == api.DeliverySuperseded:
		return &undelivered{fmt.Sprintf("revision %d is superseded-rejected: %s", d.Revision, d.Message)}
	case !d.Done(0):
		a.laggards(d)
		return &undelivered{fmt.Sprintf("revision %d is not delivered after %s: %s", d.Revision, o.timeout, d.Message)}
	case d.Acked < o.minAcked:
		return &undelivered{fmt.Sprintf("revision %d is acked by %d, and --min-acked wants %d: %s", d.Revision, d.Acked, o.minAcked, d.Message)}
	case d.State == api.DeliveryUnconcerned:
		a.notef("warning: revision %d: %s\n", d.Revision, d.Message)
	default:
		a.notef("revision %d: %s\n", d.Revision, d.Message)
	}
	a.offline(d)
	return nil
}

// offline names those who are not waited for.
func (a *app) offline(d *api.Delivery) {
	if d.Offline == 0 {
		return
	}
	var names []string
	for _, p := range d.Proxies {
		if p.State == api.DeliveryOffline && len(names) < mostOffline {
			names = append(names, p.ID)
		}
	}
	if more := d.Offline - len(names); more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	a.notef("not waited for, as offline: %s\n", strings.Join(names, ", "))
}

// laggards names those who are waited for, and what they have not answered.
func (a *app) laggards(d *api.Delivery) {
	for _, p := range d.Proxies {
		if p.State != api.DeliveryPending && p.State != api.DeliveryJoining {
			continue
		}
		what := string(p.State)
		if len(p.Waiting) > 0 {
			what += ": " + strings.Join(p.Waiting, ", ")
		}
		a.notef("%s (%s/%s) %s\n", p.ID, p.Namespace, p.Service, what)
	}
}
