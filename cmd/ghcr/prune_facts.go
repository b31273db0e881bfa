package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/retain"
)

// Limits of what is read for a policy.
const (
	maxPolicyFile = 1 << 20 // package retain has a lower one, and says so
	maxListFile   = 16 << 20
	maxInUseFiles = 10_000
	maxInUseBytes = 256 << 20
	maxGlobSteps  = 200_000 // names looked at
)

// readBounded reads a file that is not too large.
func readBounded(f fs.File, err error, name string, limit int64) ([]byte, error) {
	if err != nil {
		return nil, usage("%w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, usage("%s is a directory", name)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = usage("read %s: it is over the limit of %d bytes", name, limit)
	}
	return data, err
}

func readFile(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	return readBounded(f, err, name, limit)
}

// readPolicy reads the policy of a file.
func readPolicy(name string) (*retain.Policy, error) {
	data, err := readFile(name, maxPolicyFile)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	return retain.Parse(name, data)
}

// policyOf is the policy that the flags ask for. It is nil if they ask for none.
func (f *pruneFlags) policyOf() (*retain.Policy, error) {
	var p *retain.Policy
	var err error
	switch {
	case f.policy != "":
		p, err = readPolicy(f.policy)
	case f.isQuick:
		p, err = f.quick.Policy()
		if err != nil && strings.Contains(err.Error(), "allow_match_all") {
			err = fmt.Errorf("%w; as a flag: --i-mean-all", err)
		}
	}
	if p == nil || err != nil {
		return nil, err
	}
	f.rails.over(p)
	return p, p.Validate()
}

// factFiles are the files that a policy names, and those of --in-use.
type factFiles struct {
	lists map[string][]string
	inUse []useFile
	notes []string
}

type useFile struct {
	name string
	data []byte
}

// readFacts reads the files of a policy, by names that are relative to its directory,
// and those that globs on the command line name.
func readFacts(policy *retain.Policy, dir string, globs []string) (*factFiles, error) {
	facts := &factFiles{lists: map[string][]string{}}
	lists, inUse := policy.Files()
	for _, name := range lists {
		data, err := readFile(relativeTo(dir, name), maxListFile)
		if err != nil {
			return nil, fmt.Errorf("the list %s of the policy: %w", name, err)
		}
		lines := retain.ParseLines(data)
		if len(lines) == 0 {
			facts.notes = append(facts.notes, name+" has no lines: all that is looked up in it counts as not in it")
		}
		facts.lists[name] = lines
	}
	for _, glob := range inUse {
		if err := facts.search(relativeTo(dir, glob)); err != nil {
			return nil, fmt.Errorf("digests_from %s of the policy: %w", glob, err)
		}
	}
	for _, glob := range globs {
		if err := facts.search(glob); err != nil {
			return nil, fmt.Errorf("--in-use %s: %w", glob, err)
		}
	}
	return facts, nil
}

func relativeTo(dir, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(dir, filepath.FromSlash(name))
}

// search reads the files of a glob. One that names no file would protect nothing, and
// nobody would see it.
func (f *factFiles) search(glob string) error {
	top, pattern := splitGlob(glob)
	root, err := os.OpenRoot(top)
	if err != nil {
		return usage("%w", err)
	}
	defer root.Close()
	names, err := expand(root.FS(), pattern)
	if err != nil {
		return usage("%w", err)
	}
	if len(names) == 0 {
		return usage("there is no such file; what is meant to be in use would not be kept")
	}
	for _, name := range names {
		whole := filepath.Join(top, filepath.FromSlash(name))
		if slices.ContainsFunc(f.inUse, func(u useFile) bool { return u.name == whole }) {
			continue
		}
		// The root lets no symbolic link lead out of the directory that was named.
		if info, err := root.Stat(filepath.FromSlash(name)); err == nil && !info.Mode().IsRegular() {
			return usage("%s is no regular file", whole)
		}
		file, err := root.Open(filepath.FromSlash(name))
		data, err := readBounded(file, err, whole, maxListFile)
		if err != nil {
			return err
		}
		f.inUse = append(f.inUse, useFile{whole, data})
	}
	sum := 0
	for _, u := range f.inUse {
		sum += len(u.data)
	}
	if len(f.inUse) > maxInUseFiles || sum > maxInUseBytes {
		return usage("%d files with %d bytes are too many to search: choose them more closely", len(f.inUse), sum)
	}
	return nil
}

// splitGlob takes the directories without a pattern off the front.
func splitGlob(glob string) (top, pattern string) {
	glob = filepath.ToSlash(filepath.Clean(glob))
	top = "."
	if strings.HasPrefix(glob, "/") {
		top = "/"
	}
	parts := strings.Split(strings.TrimPrefix(glob, "/"), "/")
	for len(parts) > 1 && !strings.ContainsAny(parts[0], `*?[\`) {
		top = path.Join(top, parts[0])
		parts = parts[1:]
	}
	return filepath.FromSlash(top), strings.Join(parts, "/")
}

// expand returns the files that a glob names, sorted. "**" is any number of
// directories; below it, links to directories are not followed, for they may lead in
// circles.
func expand(tree fs.FS, pattern string) ([]string, error) {
	var found []string
	steps := 0
	var walk func(dir string, parts []string) error
	walk = func(dir string, parts []string) error {
		entries, err := fs.ReadDir(tree, dir)
		if err != nil {
			return err
		}
		if steps += len(entries) + 1; steps > maxGlobSteps {
			return errors.New("there are too many names to look through: choose more closely")
		}
		if parts[0] == "**" {
			for _, e := range entries {
				if e.IsDir() {
					if err := walk(path.Join(dir, e.Name()), parts); err != nil {
						return err
					}
				}
			}
			if len(parts) == 1 {
				parts = []string{"**", "*"}
			}
			return walk(dir, parts[1:])
		}
		for _, e := range entries {
			if ok, err := path.Match(parts[0], e.Name()); err != nil || !ok {
				if err != nil {
					return err
				}
				continue
			}
			name := path.Join(dir, e.Name())
			info, err := fs.Stat(tree, name) // of what a link leads to
			switch {
			case err != nil:
				return err
			case len(parts) == 1 && !info.IsDir():
				found = append(found, name)
			case len(parts) > 1 && info.IsDir():
				if err := walk(name, parts[1:]); err != nil {
					return err
				}
			}
		}
		return nil
	}
	err := walk(".", strings.Split(pattern, "/"))
	slices.Sort(found)
	return slices.Compact(found), err
}

// of is what the files say of one package.
func (f *factFiles) of(host, owner, name string) (retain.Facts, []string, error) {
	facts := retain.Facts{InUse: map[oci.Digest]string{}, InUseTags: map[string]string{}, Lists: f.lists}
	notes := slices.Clone(f.notes)
	for _, file := range f.inUse {
		uses, err := retain.InUse(file.data, host, owner, name)
		if err != nil {
			return facts, nil, fmt.Errorf("search %s for images in use: %w", file.name, err)
		}
		for _, d := range uses.Digests {
			if facts.InUse[d] == "" {
				facts.InUse[d] = file.name
			}
		}
		for _, tag := range uses.Tags {
			if facts.InUseTags[tag] == "" {
				facts.InUseTags[tag] = file.name
			}
		}
		for _, text := range uses.Unresolved {
			notes = append(notes, fmt.Sprintf("%s uses %s, whose tag is not known here: nothing is kept for it", file.name, printable(text)))
		}
	}
	if len(f.inUse) > 0 {
		notes = append(notes, fmt.Sprintf("in use by what %s: %s, and of %s/%s %s", says(len(f.inUse)), plural(len(facts.InUse), "digest"), owner, name, plural(len(facts.InUseTags), "tag")))
	}
	return facts, notes, nil
}

func says(files int) string {
	if files == 1 {
		return "1 file says"
	}
	return fmt.Sprintf("%d files say", files)
}
