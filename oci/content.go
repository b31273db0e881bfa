package oci

import (
	"context"
	_ "crypto/sha256" // the algorithms of digests that are understood
	_ "crypto/sha512"
	"io"
)

// Opener opens content from an offset to its end. It may be called again, and
// more than once at a time, because a request that failed is sent again. Whoever
// calls it closes the reader. A reader over a file that also has a SyscallConn
// method is sent without copying where the connection allows.
type Opener = func(ctx context.Context, offset int64) (io.ReadCloser, error)

// Stored says what became of a blob that was put somewhere.
type Stored string

// What may become of a blob that is put.
const (
	StoredUpload   Stored = "uploaded" // its bytes were moved
	StoredMount    Stored = "mounted"  // the registry took it over from another repository
	StoredExisting Stored = "existing" // it was there
)
