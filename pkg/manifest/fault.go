package manifest

import (
	"fmt"
	"strings"
)

// FieldError is one fault of one field.
type FieldError struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`   // from 1; 0 when unknown
	Column  int    `json:"column,omitempty"` // from 1; 0 when unknown
	Field   string `json:"field,omitempty"`  // path in the document, such as spec.retry.numRetries
	Message string `json:"message"`
}

// Error is "file:line:column: field: message", leaving out what is not known.
func (e *FieldError) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File + ":")
	}
	if e.Line > 0 {
		fmt.Fprintf(&b, "%d:%d:", e.Line, e.Column)
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	if e.Field != "" {
		b.WriteString(e.Field + ": ")
	}
	b.WriteString(e.Message)
	return b.String()
}

// FieldErrors are all the faults of an input, in the order of the text.
type FieldErrors []*FieldError

// Error lists every fault, one a line.
func (es FieldErrors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}
