package security

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/vuln"
)

// Repository is what there is to know of a repository for whoever asks about its
// images.
type Repository struct {
	DefaultBranch string `json:"default_branch"` // "main"
}

// Repository asks GitHub about a repository, "owner/name".
//
// Errors: [oci.ErrInvalid]; [*packages.Error], whose reason is that it is not there or
// may not be seen.
func (l *Look) Repository(ctx context.Context, name string) (Repository, error) {
	at, err := repositoryPath(name)
	if err != nil {
		return Repository{}, err
	}
	return l.repositories.get(ctx, strings.ToLower(name), func() (Repository, error) {
		var r Repository
		a, err := (&fetch{Look: l}).read(ctx, at, "", true)
		if err == nil {
			err = json.Unmarshal(a.body, &r)
		}
		return r, err
	})
}

// repositoryPath is where the API has a repository.
func repositoryPath(name string, rest ...string) (string, error) {
	owner, repository, ok := strings.Cut(name, "/")
	if !ok || owner == "" || repository == "" || strings.ContainsAny(repository, "/?#") || repository == "." || repository == ".." || owner == "." || owner == ".." {
		return "", oci.Invalid("%q is no repository: it is \"owner/name\"", name)
	}
	return "/repos/" + url.PathEscape(owner) + "/" + url.PathEscape(repository) + strings.Join(rest, ""), nil
}

// SBOM returns the SPDX document that GitHub makes of the dependency graph of a
// repository. It is of the repository's source, not of an image.
//
// Errors: a [*vuln.SourceError] that says whether it is switched off, not allowed or
// not there; [oci.ErrInvalid] for what is no "owner/name".
func (l *Look) SBOM(ctx context.Context, repository string) ([]byte, error) {
	at, err := repositoryPath(repository, "/dependency-graph/sbom")
	if err != nil {
		return nil, err
	}
	a, err := (&fetch{Look: l}).read(ctx, at, "", true)
	if err != nil {
		return nil, refused(sourceDependencyGraph, repository, err)
	}
	var wrapped struct {
		SBOM json.RawMessage `json:"sbom"`
	}
	if err := json.Unmarshal(a.body, &wrapped); err != nil || len(wrapped.SBOM) == 0 {
		return nil, &vuln.SourceError{Status: vuln.StatusError, Err: fmt.Errorf("the dependency graph of %s is not what GitHub's API gives", repository)}
	}
	return wrapped.SBOM, nil
}

// sourceDependencyGraph is no source of findings.
const sourceDependencyGraph = "dependency-graph"
