package filelock

import (
	"errors"
	"os"
	"syscall"
)

// errSharingViolation is Windows' answer where another has the file open.
const errSharingViolation = syscall.Errno(32)

// Try takes the lock that a file stands for, by opening it so that nobody else can.
//
// Errors: [ErrHeld], and that the file can't be opened.
func Try(path string) (release func(), err error) {
	name, err := syscall.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	h, err := syscall.CreateFile(name, syscall.GENERIC_READ|syscall.GENERIC_WRITE, 0, nil,
		syscall.OPEN_ALWAYS, syscall.FILE_ATTRIBUTE_NORMAL, 0)
	switch {
	case errors.Is(err, errSharingViolation):
		return nil, ErrHeld
	case err != nil:
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	// Removing fails, as it should, if another has opened the file meanwhile.
	return func() { syscall.CloseHandle(h); os.Remove(path) }, nil
}
