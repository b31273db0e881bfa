package ghcr

import (
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transport"
)

// The classes of failure that callers tell apart with [errors.Is]. They are the
// same values as in the packages that return them; details are in
// [*transport.Error] and the other error types, found with [errors.As].
var (
	ErrInvalid      = oci.ErrInvalid            // the input cannot be right
	ErrNotFound     = oci.ErrNotFound           // it does not exist, or may not be seen
	ErrIntegrity    = oci.ErrIntegrity          // bytes are not those of their digest
	ErrUnauthorized = transport.ErrUnauthorized // no credential, or one that was refused
	ErrDenied       = transport.ErrDenied       // the credential may not do this
	ErrRateLimited  = transport.ErrRateLimited  // gave up waiting for a rate limit
	ErrUnsupported  = transport.ErrUnsupported  // the service has no such operation
	ErrConflict     = transport.ErrConflict     // it is in a state that forbids this
)
