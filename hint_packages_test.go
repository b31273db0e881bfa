package ghcr_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/transport"
)

// TestHintOfEachReason: each reason for which the Packages API refuses has its own
// advice.
func TestHintOfEachReason(t *testing.T) {
	want := map[packages.Reason]string{
		packages.Gone:             "nothing left to do",
		packages.Absent:           "can't see it",
		packages.NotDeleted:       "30 days",
		packages.Unauthenticated:  "expired or revoked",
		packages.NoPermission:     "role Admin",
		packages.WrongToken:       "classic tokens",
		packages.MissingScope:     "scopes=read:packages,delete:packages",
		packages.SingleSignOn:     "Configure SSO",
		packages.Forbidden:        "owner of the organization",
		packages.NotLinked:        "Manage Actions access",
		packages.LastTagged:       "whole package",
		packages.TooManyDownloads: "support",
		packages.NameTaken:        "has its name",
		packages.TooMany:          "visibility",
		packages.NotInAPI:         "by hand",
	}
	hints := map[string]packages.Reason{}
	for reason, words := range want {
		e := &packages.Error{
			Reason: reason, Op: "delete version", Owner: "acme", Package: "app", Scope: "delete:packages", Source: "GH_TOKEN", Token: transport.ClassicToken,
			Answer: &transport.Error{Status: 404, Method: "DELETE"}, // which by itself would have another
		}
		hint := ghcr.Hint(fmt.Errorf("wrapped: %w", e))
		if !strings.Contains(hint, words) {
			t.Errorf("%s: got %q, want %q in it", reason, hint, words)
		}
		if other, taken := hints[hint]; taken {
			t.Errorf("%s and %s have the same hint", reason, other)
		}
		hints[hint] = reason
	}
	if n := reasons(t); n != len(want) {
		t.Errorf("there are %d reasons, and %d are tested", n, len(want))
	}
}

// reasons counts the reasons that package packages declares.
func reasons(t *testing.T) int {
	file, err := parser.ParseFile(token.NewFileSet(), "packages/errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	ast.Inspect(file, func(node ast.Node) bool {
		if spec, ok := node.(*ast.ValueSpec); ok {
			if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Reason" {
				n++
			}
		}
		return true
	})
	return n
}

// TestHintOfEachKindOfToken: what can be done depends on the kind of token
// (docs/quirks.md#rest-credential-rules).
func TestHintOfEachKindOfToken(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		want string
	}{
		"list with GITHUB_TOKEN":  {&packages.Error{Reason: packages.WrongToken, Op: "list packages of", Owner: "acme", Token: transport.InstallationToken}, "that are named"},
		"list, fine-grained":      {&packages.Error{Reason: packages.WrongToken, Op: "list packages of", Owner: "acme", Token: transport.FineGrainedToken}, "classic tokens"},
		"absent, fine-grained":    {&packages.Error{Reason: packages.Absent, Token: transport.FineGrainedToken, Source: "GH_TOKEN"}, "sees no packages"},
		"absent, workflow":        {&packages.Error{Reason: packages.Absent, Token: transport.InstallationToken, Source: "GITHUB_TOKEN"}, "Manage Actions access"},
		"no token":                {&packages.Error{Reason: packages.Unauthenticated}, "set GHCR_TOKEN"},
		"scope, before anything":  {&transport.ScopeError{Missing: []string{"delete:packages"}, Credential: "GH_TOKEN"}, "delete:packages"},
		"list that does not rest": {&packages.MovingError{Op: "list versions", Target: "acme/app"}, "run it again"},
	} {
		if got := ghcr.Hint(fmt.Errorf("wrapped: %w", test.err)); !strings.Contains(got, test.want) {
			t.Errorf("%s: got %q, want %q in it", name, got, test.want)
		}
	}
}
