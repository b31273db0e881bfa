// Package cosign holds package attest to the real cosign, versions 2 and 3, on the
// emulator: what either attaches to an image the other finds, reads and verifies.
// It is a module of its own, as its neighbours are, so that "go test ./..." needs
// nothing but Go. Its tests find cosign2 and cosign3 on the PATH, where .ci/run puts
// them, and fail without.
package cosign
