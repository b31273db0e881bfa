package registry

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/llm-dev-ops/ghcr/internal/atomicfile"
	"github.com/llm-dev-ops/ghcr/oci"
)

// Journal remembers open upload sessions in a directory, one small file each, so
// that an upload goes on in a later process. It holds the address of the session
// and no credential. A nil Journal remembers nothing. It is safe for use by
// several processes: the worst that two of them do to each other is to begin an
// upload anew.
type Journal struct{ dir string }

// OpenJournal keeps sessions in dir, which is made when it is first needed and
// readable by the user alone.
func OpenJournal(dir string) *Journal { return &Journal{dir} }

// journalSize is from which size on an upload is worth remembering.
const journalSize = 16 << 20

// sessionLife is after how long a session is taken for lost.
const sessionLife = 24 * time.Hour

type journalEntry struct {
	Host       string     `json:"host"`
	Repository string     `json:"repository"`
	Digest     oci.Digest `json:"digest"`
	Location   string     `json:"location"`
	Started    time.Time  `json:"started"`
}

func (j *Journal) path(u *upload) string {
	key := sha256.Sum256([]byte(u.repo.host.base.String() + "\n" + u.repo.name + "\n" + u.desc.Digest.String()))
	return filepath.Join(j.dir, hex.EncodeToString(key[:16])+".json")
}

// remember notes a session. That it cannot be noted costs a later process time
// and this one nothing, so it is no error.
func (j *Journal) remember(u *upload) {
	if j == nil || u.desc.Size < journalSize {
		return
	}
	data, err := json.Marshal(journalEntry{
		Host: u.repo.host.name, Repository: u.repo.name, Digest: u.desc.Digest,
		Location: u.session.String(), Started: time.Now().UTC(),
	})
	if err != nil || os.MkdirAll(j.dir, 0o700) != nil {
		return
	}
	atomicfile.Write(j.path(u), data, 0o600, false)
}

func (j *Journal) recall(u *upload) *url.URL {
	if j == nil || u.desc.Size < journalSize {
		return nil
	}
	data, err := os.ReadFile(j.path(u))
	if err != nil {
		return nil
	}
	var e journalEntry
	if json.Unmarshal(data, &e) != nil || e.Digest != u.desc.Digest || e.Repository != u.repo.name || time.Since(e.Started) > sessionLife {
		j.forget(u)
		return nil
	}
	location, err := url.Parse(e.Location)
	// The file is not trusted with where a credential goes.
	if err != nil || !sameHost(location, &u.repo.host.base) {
		j.forget(u)
		return nil
	}
	return location
}

func (j *Journal) forget(u *upload) {
	if j == nil || u.desc.Size < journalSize {
		return
	}
	os.Remove(j.path(u))
}
