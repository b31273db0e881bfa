// Package interop holds the command and the emulator to clients and registries
// that others wrote: go-github for the Packages API among them. It is a module of
// its own, so that nothing of theirs is in the project's go.mod. Its tests find crane, oras, regctl, skopeo and the CNCF
// distribution registry on the PATH, where .ci/run puts them, and fail without.
package interop
