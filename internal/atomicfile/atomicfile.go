// Package atomicfile writes files that have all of their content or none of it, whoever looks
// and whatever ends the program meanwhile.
package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Prefix begins the names of files that are being written, in the directory of the file that they
// are to be. What a program that was killed has left behind has it.
const Prefix = ".new-"

// Write has a file hold data instead of what it held. Others see the one or the other. With
// durable it outlives a crash of the machine.
//
// Errors: those of the directory, which must be there. The file is then as it was.
func Write(path string, data []byte, mode fs.FileMode, durable bool) error {
	f, err := os.CreateTemp(filepath.Dir(path), Prefix+"*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && durable {
		err = f.Sync()
	}
	if err == nil && mode != 0o600 { // which it has
		err = f.Chmod(mode)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
