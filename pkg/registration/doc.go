// Package registration keeps the endpoint of the application beside an agent registered with the control plane: as long as the
// application answers, and the agent runs.
package registration
