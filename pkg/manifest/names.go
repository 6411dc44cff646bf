package manifest

import (
	"fmt"
	"slices"
	"sort"
	"strings"
)

// The bounds of metadata.
const (
	maxName           = 63
	maxLabels         = 64
	maxLabelValue     = 63
	maxLabelPrefix    = 253
	maxAnnotationSize = 64 << 10 // all keys and values together
)

// truthy are the names that YAML 1.1 readers turn into booleans or null.
var truthy = []string{"on", "off", "yes", "no", "y", "n", "true", "false", "null"}

// CheckName says what is wrong with a name: a DNS label (RFC 1123) that no YAML reader takes for something else; "" when
// nothing is.
func CheckName(name string) string {
	switch {
	case name == "":
		return "is required"
	case len(name) > maxName:
		return fmt.Sprintf("must have at most %d characters, has %d", maxName, len(name))
	case strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || !isWord(name):
		return fmt.Sprintf("%q must consist of a-z, 0-9 and '-' only", clip(name))
	case strings.HasPrefix(name, "-") || strings.HasSuffix(name, "-"):
		return fmt.Sprintf("%q must begin and end with a letter or digit", name)
	case slices.Contains(truthy, name):
		return fmt.Sprintf("%q is taken for a boolean by some YAML readers: choose another name", name)
	}
	return ""
}

func isWord(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-') {
			return false
		}
	}
	return true
}

// CheckMeta is what is wrong with the author's part of the metadata. An absent namespace is no fault: see DefaultNamespace.
func CheckMeta(m *Meta) FieldErrors {
	errs := appendFault(nil, "metadata.name", CheckName(m.Name))
	if m.Namespace != "" {
		errs = appendFault(errs, "metadata.namespace", CheckName(m.Namespace))
	}
	errs = append(errs, CheckLabels("metadata.labels", m.Labels)...)
	return append(errs, checkAnnotations(m.Annotations)...)
}

// CheckLabels is what is wrong with labels: keys are an optional DNS prefix, "/" and a name; values a name or empty.
func CheckLabels(path string, labels map[string]string) FieldErrors {
	var errs FieldErrors
	if len(labels) > maxLabels {
		errs = appendFault(errs, path, fmt.Sprintf("must have at most %d labels, has %d", maxLabels, len(labels)))
	}
	for _, key := range sortedKeys(labels) {
		at := entry(path, key)
		errs = appendFault(errs, at, checkLabelKey(key))
		if v := labels[key]; v != "" && !labelName(v) {
			errs = appendFault(errs, at, fmt.Sprintf("%q must have at most %d characters of a-z, A-Z, 0-9, '-', '_', '.' and begin and end with a letter or digit", clip(v), maxLabelValue))
		}
	}
	return errs
}

func checkLabelKey(key string) string {
	prefix, name, ok := strings.Cut(key, "/")
	if !ok {
		prefix, name = "", key
	}
	if ok && (len(prefix) > maxLabelPrefix || !DNSName(prefix)) {
		return fmt.Sprintf("the part of the key before \"/\" must be a DNS name, not %q", clip(prefix))
	}
	if !labelName(name) {
		return fmt.Sprintf("the key must have 1 to %d characters of a-z, A-Z, 0-9, '-', '_', '.' and begin and end with a letter or digit", maxLabelValue)
	}
	return ""
}

// labelName reports whether s can be the value of a label or the name in a key.
func labelName(s string) bool {
	if s == "" || len(s) > maxLabelValue {
		return false
	}
	for i := range len(s) {
		if alphanumeric(s[i]) {
			continue
		}
		if i == 0 || i == len(s)-1 || !strings.ContainsRune("-_.", rune(s[i])) {
			return false
		}
	}
	return true
}

func alphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// DNSName reports whether s is a DNS name in lower case: labels of at most 63 characters, together at most 253.
func DNSName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > maxName || !isWord(label) || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
	}
	return true
}

func checkAnnotations(annotations map[string]string) FieldErrors {
	var errs FieldErrors
	size := 0
	for _, key := range sortedKeys(annotations) {
		size += len(key) + len(annotations[key])
		errs = appendFault(errs, entry("metadata.annotations", key), checkLabelKey(key))
	}
	if size > maxAnnotationSize {
		errs = appendFault(errs, "metadata.annotations", fmt.Sprintf("must have at most %d bytes together, has %d", maxAnnotationSize, size))
	}
	return errs
}

// entry is the path of a map's entry: quoted where the key is no plain word.
func entry(path, key string) string {
	for i := range len(key) {
		if !alphanumeric(key[i]) && key[i] != '-' && key[i] != '_' {
			return fmt.Sprintf("%s[%q]", path, clip(key))
		}
	}
	return join(path, key)
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
