package packages

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/llm-dev-ops/ghcr/internal/atomicfile"
)

// cache keeps answers in a directory, one file each, with the ETags that GitHub gave
// them. What it holds is only used when GitHub says that it is still so, which needs
// a login that may see it. Whatever is wrong with a file, it is as if it were not
// there. Several processes may use one directory. A nil cache keeps nothing.
type cache struct {
	dir  string
	size int64

	mu      sync.Mutex
	salt    []byte
	written int64 // since the directory was last measured
	swept   bool
}

// defaultCacheSize is room for the lists of some hundred thousand versions.
const defaultCacheSize = 64 << 20

// maxETags is how many ETags are kept of one answer. GitHub's depend on the token.
const maxETags = 4

func openCache(dir string, size int64) *cache {
	if dir == "" {
		return nil
	}
	return &cache{dir: dir, size: cmp.Or(size, defaultCacheSize)}
}

// kept is an answer of the cache, or the place of one.
type kept struct {
	answer
	etags []string
	key   string // what it is the answer to, and for whom
	file  string
}

// head is the first line of a file.
type head struct {
	Key   string   `json:"key"` // hashed as the file's name is
	ETags []string `json:"etags"`
	Link  string   `json:"link,omitempty"`
}

// recall finds what is known of the answer to a request.
func (c *Client) recall(ctx context.Context, q request) (kept, bool) {
	if c.cache == nil {
		return kept{}, false
	}
	salt := c.cache.secret()
	if salt == nil {
		return kept{}, false
	}
	identity, err := c.transport.Identity(ctx, c.Host(), q.token, salt)
	if err != nil {
		return kept{}, false
	}
	key := hashed(salt, strings.Join([]string{q.url, q.mediaType(), apiVersion, identity}, "\n"))
	k := kept{key: key, file: filepath.Join(c.cache.dir, key+".gz")}
	return k, c.cache.load(&k)
}

func hashed(salt []byte, s string) string {
	mac := hmac.New(sha256.New, salt)
	mac.Write([]byte(s))
	return hex.EncodeToString(mac.Sum(nil))
}

// keep stores an answer. Where it is the known one with another ETag, both are good.
func (c *Client) keep(k kept, a answer, etag string) {
	if c.cache == nil || k.file == "" || etag == "" {
		return
	}
	etags := []string{etag}
	if bytes.Equal(k.body, a.body) && k.link == a.link {
		for _, other := range k.etags {
			if other != etag && len(etags) < maxETags {
				etags = append(etags, other)
			}
		}
	}
	k.answer, k.etags = a, etags
	c.cache.store(k)
}

// saltFile holds what hashes are made with, so that none means anything elsewhere.
const saltFile = "salt"

const saltSize = 32

// secret returns the salt, made when it is first needed. It is nil where the
// directory cannot be used.
func (c *cache) secret() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.salt != nil {
		return c.salt
	}
	if os.MkdirAll(c.dir, 0o700) != nil || os.Chmod(c.dir, 0o700) != nil {
		return nil
	}
	path := filepath.Join(c.dir, saltFile)
	salt, err := os.ReadFile(path)
	if err != nil || len(salt) != saltSize {
		salt = make([]byte, saltSize)
		rand.Read(salt)
		if atomicfile.Write(path, salt, 0o600, false) != nil {
			return nil
		}
		// Another process may have been faster or slower; what is there now counts.
		if salt, err = os.ReadFile(path); err != nil || len(salt) != saltSize {
			return nil
		}
	}
	c.salt = salt
	return salt
}

func (c *cache) load(k *kept) bool {
	f, err := os.Open(k.file)
	if err != nil {
		return false
	}
	defer f.Close()
	z, err := gzip.NewReader(bufio.NewReader(f))
	if err != nil {
		return false
	}
	data, err := io.ReadAll(io.LimitReader(z, maxAnswer+1)) // checks the sum at its end
	line, body, ok := bytes.Cut(data, []byte("\n"))
	var h head
	if err != nil || len(data) > maxAnswer || !ok || json.Unmarshal(line, &h) != nil || h.Key != k.key || len(h.ETags) == 0 {
		return false
	}
	k.answer, k.etags = answer{body: body, link: h.Link}, h.ETags
	return true
}

func (c *cache) store(k kept) {
	line, err := json.Marshal(head{Key: k.key, ETags: k.etags, Link: k.link})
	if err != nil {
		return
	}
	var data bytes.Buffer
	z, _ := gzip.NewWriterLevel(&data, gzip.BestSpeed)
	z.Write(line)
	z.Write([]byte("\n"))
	z.Write(k.body)
	if z.Close() != nil || int64(data.Len()) > c.size/4 || atomicfile.Write(k.file, data.Bytes(), 0o600, false) != nil {
		return
	}
	c.mu.Lock()
	c.written += int64(data.Len())
	due := !c.swept || c.written > c.size/8
	if due {
		c.swept, c.written = true, 0
	}
	c.mu.Unlock()
	if due {
		c.sweep()
	}
}

// used notes that an answer was of use, for when there is no room.
func (c *cache) used(k kept) {
	now := time.Now()
	os.Chtimes(k.file, now, now)
}

// answerFile is how the files of answers are called.
var answerFile = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9a-f]{64}\.gz$`) })

// abandoned is after how long a file aside is taken for left behind.
const abandoned = time.Hour

// sweep removes what was not used for the longest time until the rest is well below
// the bound.
func (c *cache) sweep() {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return
	}
	var files []fs.FileInfo
	var total int64
	for _, e := range entries {
		info, err := e.Info()
		switch {
		case err != nil || !info.Mode().IsRegular() || e.Name() == saltFile:
		case strings.HasPrefix(e.Name(), atomicfile.Prefix):
			if time.Since(info.ModTime()) > abandoned {
				os.Remove(filepath.Join(c.dir, e.Name()))
			}
		case answerFile().MatchString(e.Name()): // others may be somebody else's
			files = append(files, info)
			total += info.Size()
		}
	}
	if total <= c.size {
		return
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, f := range files {
		if total <= c.size*3/4 {
			return
		}
		if os.Remove(filepath.Join(c.dir, f.Name())) == nil {
			total -= f.Size()
		}
	}
}
