package dataplane

import (
	"net/textproto"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// Format is a text with places to fill in.
type Format struct{ Parts []FormatPart }

// FormatPart is a literal, or what a command yields.
type FormatPart struct {
	Command Command
	Text    string // the literal; or the argument of the command

	Expression *Expression // of Computed
}

// Command says what is filled in.
type Command uint8

// The commands, and what Envoy calls them.
const (
	Literal        Command = iota
	RequestHeader          // REQ, of Text in canonical form
	ResponseCode           // RESPONSE_CODE
	ResponseFlags          // RESPONSE_FLAGS
	CodeDetails            // RESPONSE_CODE_DETAILS
	UpstreamName           // UPSTREAM_CLUSTER
	LocalReplyBody         // LOCAL_REPLY_BODY
	Computed               // CEL, of Text
)

var commandNames = [...]string{
	ResponseCode: "RESPONSE_CODE", ResponseFlags: "RESPONSE_FLAGS", CodeDetails: "RESPONSE_CODE_DETAILS",
	UpstreamName: "UPSTREAM_CLUSTER", LocalReplyBody: "LOCAL_REPLY_BODY",
}

// String is the format as Envoy writes it.
func (f Format) String() string {
	var b strings.Builder
	for _, p := range f.Parts {
		switch p.Command {
		case Literal:
			b.WriteString(strings.ReplaceAll(p.Text, "%", "%%"))
		case RequestHeader:
			b.WriteString("%REQ(" + strings.ToLower(p.Text) + ")%")
		case Computed:
			b.WriteString("%CEL(" + p.Text + ")%")
		default:
			b.WriteString("%" + commandNames[p.Command] + "%")
		}
	}
	return b.String()
}

// format reads a text in which %COMMAND% is filled in and %% is a percent sign.
func (r *reader) format(path, text string) Format {
	var f Format
	for rest := text; rest != ""; {
		before, after, found := strings.Cut(rest, "%")
		if before != "" {
			f.literal(before)
		}
		if !found {
			break
		}
		command, after, found := strings.Cut(after, "%")
		p, ok := formatCommand(command)
		switch {
		case found && command == "":
			f.literal("%")
		case found && ok:
			f.Parts = append(f.Parts, p)
		default:
			r.fault(path, "%q is not enforced by this agent", "%"+command+"%")
			return f
		}
		rest = after
	}
	return f
}

func (f *Format) literal(text string) {
	if n := len(f.Parts); n > 0 && f.Parts[n-1].Command == Literal {
		f.Parts[n-1].Text += text
		return
	}
	f.Parts = append(f.Parts, FormatPart{Text: text})
}

func formatCommand(command string) (FormatPart, bool) {
	if inner, ok := strings.CutPrefix(command, "REQ("); ok {
		name, ok := strings.CutSuffix(inner, ")")
		ok = ok && name != "" && !strings.ContainsAny(name, "?:()% ")
		return FormatPart{Command: RequestHeader, Text: textproto.CanonicalMIMEHeaderKey(name)}, ok
	}
	if inner, ok := strings.CutPrefix(command, "CEL("); ok && strings.HasSuffix(inner, ")") {
		text := strings.TrimSuffix(inner, ")")
		e, err := parseExpression(text)
		return FormatPart{Command: Computed, Text: text, Expression: &e}, err == nil
	}
	i := slices.Index(commandNames[:], command)
	return FormatPart{Command: Command(max(0, i))}, i > 0 && command != ""
}

// HeaderEdit changes one header.
type HeaderEdit struct {
	Name      string // canonical
	Value     Format
	Action    EditAction
	KeepEmpty bool // adds it where the value is empty, too
}

// EditAction is how a header changes.
type EditAction uint8

// The actions.
const (
	AppendHeader EditAction = iota
	AddIfAbsent
	Overwrite         // or add
	OverwriteIfExists // and never add
	RemoveHeader
)

// String is the action's name in an outline.
func (a EditAction) String() string {
	return [...]string{"append", "add if absent", "overwrite", "overwrite if exists", "remove"}[a]
}

func headerOptionFields() fields {
	return fields{"header": {"key": nil, "value": nil}, "append_action": nil, "append": nil, "keep_empty_value": nil}
}

func (r *reader) headerEdits(path string, list []*corev3.HeaderValueOption) []HeaderEdit {
	var out []HeaderEdit
	for i, o := range list {
		out = append(out, r.headerEdit(indexed(path, i), o))
	}
	return out
}

// levelEdits are the edits of one level of routes: what is removed, and then what is added. Path lacks its end.
func (r *reader) levelEdits(path string, remove []string, add []*corev3.HeaderValueOption) []HeaderEdit {
	var out []HeaderEdit
	for i, name := range remove {
		out = append(out, HeaderEdit{Name: r.headerName(indexed(path+"_to_remove", i), name), Action: RemoveHeader})
	}
	return append(out, r.headerEdits(path+"_to_add", add)...)
}

func (r *reader) headerEdit(path string, o *corev3.HeaderValueOption) HeaderEdit {
	e := HeaderEdit{
		Name:  r.headerName(path+".header.key", o.GetHeader().GetKey()),
		Value: r.format(path+".header.value", o.GetHeader().GetValue()), KeepEmpty: o.GetKeepEmptyValue(),
	}
	switch o.GetAppendAction() {
	case corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD:
		if o.GetAppend() != nil && !o.GetAppend().GetValue() { // other servers still say it so
			e.Action = Overwrite
		}
	case corev3.HeaderValueOption_ADD_IF_ABSENT:
		e.Action = AddIfAbsent
	case corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD:
		e.Action = Overwrite
	case corev3.HeaderValueOption_OVERWRITE_IF_EXISTS:
		e.Action = OverwriteIfExists
	default:
		r.notEnforced(path + ".append_action")
	}
	return e
}

// headerName refuses what is no header of its own to Go's HTTP.
func (r *reader) headerName(path, name string) string {
	switch lower := strings.ToLower(name); {
	case lower == "":
		r.fault(path, "is empty")
	case lower == "host" || lower[0] == ':':
		r.fault(path, "%q is not edited by this agent", name)
	case slices.Contains([]string{"connection", "content-length", "transfer-encoding", "upgrade", "te", "trailer"}, lower):
		r.fault(path, "%q is of the connection, and not edited by this agent", name)
	}
	return textproto.CanonicalMIMEHeaderKey(name)
}
