package transfer

import (
	"syscall"
	"testing"
)

// FillDisk makes the disk full for stages once limit bytes of a file were written,
// until the test ends. Tests that call it are not parallel.
func FillDisk(t *testing.T, limit int64) {
	real := openStageFile
	t.Cleanup(func() { openStageFile = real })
	openStageFile = func(path string) (stageFile, error) {
		f, err := real(path)
		return &fullFile{stageFile: f, left: limit}, err
	}
}

type fullFile struct {
	stageFile
	left int64
}

func (f *fullFile) WriteAt(p []byte, offset int64) (int, error) {
	if int64(len(p)) <= f.left {
		f.left -= int64(len(p))
		return f.stageFile.WriteAt(p, offset)
	}
	n, err := f.stageFile.WriteAt(p[:f.left], offset)
	f.left = 0
	if err == nil {
		err = syscall.ENOSPC
	}
	return n, err
}
