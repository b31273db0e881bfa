package main

import (
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// maxHARBody is how much of a body goes into an archive that other tools hold in
// memory as a whole.
const maxHARBody = "8MiB"

func (a *app) tapeExportCommand() *cobra.Command {
	var har, most string
	cmd := &cobra.Command{
		Use:   "export DIR --har FILE",
		Short: "Write a cassette as an HTTP Archive",
		Long: `Write a cassette as an HTTP Archive 1.2, which browsers and proxies read: texts as they
are, other bodies in base64, and of larger ones the digest. What was secret is a
placeholder there too.`,
		Example: "  ghcr tape export tape --har tape.har\n  ghcr tape export tape --har -",
		Args:    args(cobra.ExactArgs(1)), ValidArgsFunction: completeDirs,
		RunE: func(_ *cobra.Command, given []string) error {
			if har == "" {
				return usage("export: say where to with --har FILE, or --har - for stdout")
			}
			limit, err := parseSize(most)
			if err != nil {
				return usage("--max-body: %w", err)
			}
			c, err := readTape(given[0])
			if err != nil {
				return err
			}
			defer c.Close()
			if har == "-" {
				return damaged(c.WriteHAR(a.stdout, limit))
			}
			r, w := io.Pipe()
			defer r.Close()
			go func() { w.CloseWithError(c.WriteHAR(w, limit)) }()
			return damaged(writeAside(har, r))
		},
	}
	cmd.Flags().StringVar(&har, "har", "", "`FILE` to write, or - for stdout")
	cmd.Flags().StringVar(&most, "max-body", maxHARBody, "leave out bodies above this `SIZE`")
	return cmd
}

// readLines reads the lines of a file, or of stdin.
func (a *app) readLines(path string) ([]string, error) {
	const most = 1 << 20
	in := a.stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, usage("%w", err)
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, most+1))
	if err != nil {
		return nil, err
	}
	if len(data) > most {
		return nil, usage("%s has more than %d bytes", path, most)
	}
	var list []string
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			list = append(list, line)
		}
	}
	if len(list) == 0 {
		return nil, usage("%s has no line", path)
	}
	return list, nil
}
