package ghcrtest

import (
	"encoding/binary"
	"hash/crc32"
)

// maxLiteral is the most that one piece of a snappy block, or one frame, holds here.
const maxLiteral = 1 << 16

// snappyBlock writes the block format of snappy as a list of literals. That is all of the
// format that a writer needs, and saves a library.
func snappyBlock(data []byte) []byte {
	out := binary.AppendUvarint(nil, uint64(len(data)))
	for len(data) > 0 {
		n := min(len(data), maxLiteral)
		if n <= 60 {
			out = append(out, byte(n-1)<<2)
		} else {
			out = append(out, 61<<2, byte(n-1), byte((n-1)>>8)) // the length is in two bytes
		}
		out = append(out, data[:n]...)
		data = data[n:]
	}
	return out
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// snappyFrames writes the framing format of snappy, of frames that are not compressed.
func snappyFrames(data []byte) []byte {
	out := []byte("\xff\x06\x00\x00sNaPpY")
	for len(data) > 0 {
		n := min(len(data), maxLiteral)
		sum := crc32.Checksum(data[:n], castagnoli)
		size := n + 4
		out = append(out, 1, byte(size), byte(size>>8), byte(size>>16))
		out = binary.LittleEndian.AppendUint32(out, (sum>>15|sum<<17)+0xa282ead8)
		out = append(out, data[:n]...)
		data = data[n:]
	}
	return out
}
