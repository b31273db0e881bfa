package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/llm-dev-ops/ghcr/packages"
)

func (a *app) apiCommand() *cobra.Command {
	var method, input string
	var paginate bool
	cmd := &cobra.Command{
		Use:   "api PATH",
		Short: "Call GitHub's REST API as it is",
		Long: `Send one request to GitHub's REST API, with the login, limits and retries of all other
commands, and print the answer as it is, or what --jq, --template and --json make of
it. With --paginate a list is read to its end, and printed as one. The path is as
GitHub documents it; a name with a slash in it is written with %2F.`,
		Example: "  ghcr api /orgs/acme/packages/container/app/versions --paginate --jq '.[].id'\n  ghcr api /user --jq .login",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			if input != "" && !cmd.Flags().Changed("method") {
				method = http.MethodPost
			}
			method = strings.ToUpper(method)
			if !slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}, method) {
				return usage("--method %q: want GET, HEAD, POST, PUT, PATCH or DELETE", method)
			}
			if paginate && method != http.MethodGet {
				return usage("--paginate reads lists: it goes with GET")
			}
			var content []byte
			if input != "" {
				var err error
				if content, err = a.readInput(input); err != nil {
					return err
				}
			}
			api, err := a.packages()
			if err != nil {
				return err
			}
			if paginate {
				return a.apiList(cmd.Context(), api, given[0])
			}
			body, _, err := callAPI(cmd.Context(), api, method, given[0], content)
			if err != nil {
				return err
			}
			return a.printAnswer(body)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&method, "method", "X", http.MethodGet, "`METHOD` of the request")
	flags.StringVar(&input, "input", "", "`FILE` to send as JSON, - for stdin; by POST if no method is given")
	flags.BoolVar(&paginate, "paginate", false, "read a list to its end")
	return cmd
}

// maxAPIAnswer is far above the size of a page.
const maxAPIAnswer = 64 << 20

// callAPI reads an answer whole, and where the next page is.
func callAPI(ctx context.Context, api *packages.Client, method, path string, content []byte) (body []byte, next string, err error) {
	resp, err := api.Call(ctx, method, path, content)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	if body, err = io.ReadAll(io.LimitReader(resp.Body, maxAPIAnswer+1)); err != nil {
		return nil, "", fmt.Errorf("read the answer: %w", err)
	}
	if len(body) > maxAPIAnswer {
		return nil, "", fmt.Errorf("the answer is over the limit of %d bytes", maxAPIAnswer)
	}
	next, err = api.NextPage(resp)
	return body, next, err
}

// apiList puts the pages of a list together.
func (a *app) apiList(ctx context.Context, api *packages.Client, path string) error {
	rows := []json.RawMessage{}
	asked := map[string]bool{}
	for next := path; next != "" && !asked[next]; {
		asked[next] = true
		body, after, err := callAPI(ctx, api, http.MethodGet, next, nil)
		if err != nil {
			return err
		}
		var page []json.RawMessage
		if err := json.Unmarshal(body, &page); err != nil {
			return usage("--paginate: the answer is no list")
		}
		rows = append(rows, page...)
		next = after
	}
	all, err := json.Marshal(rows)
	if err != nil {
		return err
	}
	return a.printAnswer(all)
}

// printAnswer prints an answer as it is, unless something is to be made of it.
func (a *app) printAnswer(body []byte) error {
	shaped := a.flags.json.set || a.flags.jq != "" || a.flags.template != ""
	switch {
	case len(bytes.TrimSpace(body)) == 0:
		return nil
	case !json.Valid(body) && shaped:
		return errors.New("the answer is no JSON")
	case shaped:
		return a.printJSON(json.RawMessage(body))
	case a.isTerminal(a.stdout) && json.Valid(body):
		var indented bytes.Buffer
		if err := json.Indent(&indented, body, "", "  "); err == nil {
			body = indented.Bytes()
		}
	}
	_, err := a.stdout.Write(append(bytes.TrimRight(body, "\n"), '\n'))
	return err
}

// readInput reads a file, or stdin.
func (a *app) readInput(name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(a.stdin)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, usage("--input: %w", err)
	}
	return data, nil
}
