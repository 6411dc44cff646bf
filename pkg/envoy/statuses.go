package envoy

// The statuses of HTTP that a final answer may have.
const (
	firstStatus   = 100
	endOfStatuses = 600
)

// statusRange is from first to before end.
type statusRange struct{ first, end uint32 }

// ranges are the statuses of which is is true, as few ranges as there can be, in order.
func ranges(is func(status uint32) bool) []statusRange {
	var list []statusRange
	for status := uint32(firstStatus); status < endOfStatuses; status++ {
		switch last := len(list) - 1; {
		case !is(status):
		case last >= 0 && list[last].end == status:
			list[last].end++
		default:
			list = append(list, statusRange{status, status + 1})
		}
	}
	return list
}
