// Package hostile attacks a real control plane as a hostile or broken proxy may, in every way we know, while a canary looks at how others
// are served.
package hostile
