package ghcrtest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Visibility says who may read a package. The zero value is none.
type Visibility string

// The visibilities: of those with permission, of everybody, and of the members of
// the owner's enterprise, whom the emulator does not tell from those with permission.
const (
	Private  Visibility = "private"
	Public   Visibility = "public"
	Internal Visibility = "internal"
)

// Roles of an account, or of the workflows of a repository.
const (
	roleRead  = "read"
	roleWrite = "write"
	roleAdmin = "admin"
)

// roles, from the least.
var roles = []string{"", roleRead, roleWrite, roleAdmin}

// Package is what is set on a package's settings page, and by no API. A zero field
// leaves what it is about as it is.
type Package struct {
	Name       string // "owner/name", in lower case
	Visibility Visibility
	// Repository is the "owner/repository" of source code that the package is linked
	// to. Its workflows may write the package.
	Repository string
	// Access is what the workflows of repositories may do: "read", "write" or "admin",
	// or "" for nothing. It goes before what a link allows.
	Access map[string]string
	// Downloads are added to those of each version, past and future.
	Downloads int64
}

// SetPackage changes the settings of a package. One that does not exist is made.
//
// Errors: [oci.ErrInvalid] for a malformed name, visibility or role; a directory that
// cannot be written.
func (s *Server) SetPackage(p Package) error {
	if err := p.check(); err != nil {
		return err
	}
	return s.store.setPackage(p)
}

func (p Package) check() error {
	if err := oci.CheckName(p.Name); err != nil {
		return err
	}
	if !slices.Contains([]Visibility{"", Private, Public, Internal}, p.Visibility) {
		return oci.Invalid("visibility %q of %s: want private, public or internal", p.Visibility, p.Name)
	}
	for repository, role := range p.Access {
		if !slices.Contains(roles, role) {
			return oci.Invalid("role %q of %s for %s: want read, write or admin", role, repository, p.Name)
		}
	}
	return nil
}

func (s *store) setPackage(p Package) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.packages[p.Name]
	if p.Visibility == "" {
		p.Visibility = s.quirks.FirstPushVisibility
		if old != nil {
			p.Visibility = old.visibility
		}
	}
	p.Repository = strings.ToLower(p.Repository)
	if old == nil || old.visibility != p.Visibility || p.Repository != "" && old.repository != p.Repository {
		if err := s.commit(event{Op: opPackage, Repo: p.Name, Visibility: p.Visibility, Repository: p.Repository}); err != nil {
			return err
		}
		old = s.packages[p.Name]
	}
	for repository, role := range p.Access {
		repository = strings.ToLower(repository)
		if now, ok := old.access[repository]; !ok || now != role {
			if err := s.commit(event{Op: opAccess, Repo: p.Name, Repository: repository, Role: role}); err != nil {
				return err
			}
		}
	}
	if p.Downloads != 0 && p.Downloads != old.downloads {
		return s.commit(event{Op: opDownloads, Repo: p.Name, Count: p.Downloads})
	}
	return nil
}

// setUp is SetPackage for what a server begins with: a package that was deleted
// stays so.
func (s *Server) setUp(p Package) error {
	s.store.mu.RLock()
	trashed := s.store.packages[p.Name] == nil && s.store.trashed(p.Name) != nil
	s.store.mu.RUnlock()
	if trashed {
		return p.check()
	}
	return s.SetPackage(p)
}

// role is what the workflows of a repository may do to a package.
func (s *store) role(repo, repository string) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p, repository := s.packages[repo], strings.ToLower(repository)
	if p == nil {
		// They may make one beside their repository.
		owner, _, _ := strings.Cut(repo, "/")
		if of, _, _ := strings.Cut(repository, "/"); of == owner {
			return roleAdmin
		}
		return ""
	}
	if role, ok := p.access[repository]; ok {
		return role
	}
	if p.repository == repository {
		return roleWrite
	}
	return ""
}

// Downloads returns how often a manifest was downloaded, by tag or digest; 0 for one
// that is not there.
func (s *Server) Downloads(repo, ref string) int64 {
	v := s.store.manifest(repo, ref)
	if v == nil {
		return 0
	}
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	return v.pkg.downloads + v.downloads.Load()
}

// SetDownloads has a manifest have been downloaded so often, by tag or digest.
//
// Errors: [oci.ErrNotFound] if it is not there; a directory that cannot be written.
func (s *Server) SetDownloads(repo, ref string, n int64) error {
	v := s.store.manifest(repo, ref)
	if v == nil {
		return fmt.Errorf("set the downloads of %s, %s: manifest %w", repo, ref, oci.ErrNotFound)
	}
	return s.store.apply(event{Op: opDownloads, ID: v.id, Count: n})
}

func (s *store) replayDownloads(p *pkg, e event) {
	if v := s.versions[e.ID]; v != nil {
		v.downloads.Store(e.Count)
		v.noted = e.Count
	} else if p != nil {
		p.downloads = e.Count
	}
}

// noteDownloads tells the journal of the downloads since it was last told: a read
// should not write to the disk.
func (s *store) noteDownloads() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.journal == nil {
		return nil
	}
	for id, v := range s.versions {
		if n := v.downloads.Load(); n != v.noted {
			if err := s.commit(event{Op: opDownloads, ID: id, Count: n}); err != nil {
				return err
			}
		}
	}
	return nil
}

// labels are what GitHub reads from the labels or annotations of an image.
type labels struct {
	License     string `json:"license,omitempty"`
	Description string `json:"description,omitempty"`
}

// maxConfig is from which size on a config is not looked at.
const maxConfig = 1 << 20

// readLabels finds what GitHub reads from an image: labels, and the repository of its
// source if that has the same owner, which a package without a link is linked to.
func (s *Server) readLabels(repo string, m *oci.Manifest) (l labels, repository string) {
	var image struct {
		Config struct{ Labels map[string]string }
	}
	if c := m.Config; c != nil && c.Size <= maxConfig && slices.Contains([]string{ociTypes.config, dockerTypes.config}, c.MediaType) {
		if raw, err := s.contents.read(c.Digest); err == nil {
			json.Unmarshal(raw, &image) // what is not JSON has no labels
		}
	}
	get := func(key string) string {
		key = "org.opencontainers.image." + key
		return cmp.Or(m.Annotations[key], image.Config.Labels[key])
	}
	owner, _, _ := strings.Cut(repo, "/")
	source := strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(get("source"), "https://github.com/"), ".git"))
	if strings.HasPrefix(source, owner+"/") && strings.Count(source, "/") == 1 {
		repository = source
	}
	return labels{License: get("licenses"), Description: get("description")}, repository
}
