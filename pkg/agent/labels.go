package agent

import (
	"encoding/csv"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// labels is a flag's NAME=VALUE[,NAME=VALUE], in which no name is twice.
type labels map[string]string

// Type is that of pflag's own, as which the settings file takes it.
func (*labels) Type() string { return "stringToString" }

// String is the flag's value in brackets.
func (l *labels) String() string {
	var items []string
	for _, name := range slices.Sorted(maps.Keys(*l)) {
		items = append(items, name+"="+(*l)[name])
	}
	return "[" + strings.Join(items, ",") + "]"
}

// Set adds the labels of text.
func (l *labels) Set(text string) error {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	items, err := csv.NewReader(strings.NewReader(text)).Read()
	if err != nil {
		return err
	}
	for _, item := range items {
		name, value, ok := strings.Cut(item, "=")
		if !ok {
			return fmt.Errorf("%q: want NAME=VALUE", item)
		}
		if _, twice := (*l)[name]; twice {
			return fmt.Errorf("%s is set twice", name)
		}
		if *l == nil {
			*l = labels{}
		}
		(*l)[name] = value
	}
	return nil
}
