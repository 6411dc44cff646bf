// Package breakwater is the root of the Breakwater module.
package breakwater
