package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/attest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/vuln"
)

const inTotoType = "application/vnd.in-toto+json"

// attachFlags say what is attached.
type attachFlags struct {
	typ          string
	predicate    string
	document     string
	mediaType    string
	artifactType string
	annotations  map[string]string
	platform     string
	dryRun       bool
}

// attachment is what ghcr attest prints.
type attachment struct {
	Schema        string     `json:"schema"`
	Ref           string     `json:"ref"` // of what was attached
	Digest        oci.Digest `json:"digest"`
	Subject       oci.Digest `json:"subject"` // that it was attached to
	ArtifactType  string     `json:"artifactType"`
	PredicateType string     `json:"predicateType"`
	Size          int        `json:"size"` // of the document
	DryRun        bool       `json:"dryRun"`
}

func (a *app) attestCommand() *cobra.Command {
	var f attachFlags
	cmd := &cobra.Command{
		Use:   "attest REF",
		Short: "Attach SBOMs, provenance, reports and signatures to an image",
		Long: `Attach a document to an image, as an artifact that refers to it: cosign 3, oras and all
who look for referrers find it, and ghcr cp -r takes it along.

--predicate FILE says something of the image: it is put into a statement of in-toto that
names the image's digest, with --type as its predicate type: one of ` + predicateNames() + `,
or a URI. ghcr does not sign: whoever can push can say the same. To sign it use cosign attest.

--document FILE is attached as it is: a Sigstore bundle or an envelope that another tool has
signed, an SBOM, a report, or anything else with --media-type. What names another image is
refused. A scanner's report is attached with ghcr vulns attach.

FILE is - for stdin. Attaching the same again adds nothing.`,
		Example: "  ghcr attest acme/app:v1 --type openvex --predicate openvex.json\n  ghcr attest acme/app:v1 --document sbom.spdx.json",
		Args:    args(cobra.ExactArgs(1)), ValidArgsFunction: a.completeTags,
		RunE: func(cmd *cobra.Command, given []string) error {
			if (f.predicate == "") == (f.document == "") {
				return usage("attest: give --predicate FILE, which is put into a statement, or --document FILE, which is attached as it is")
			}
			if f.predicate != "" && (f.typ == "" || f.mediaType != "") {
				return usage("attest: a --predicate needs its --type, and its media type is that of statements")
			}
			if f.document != "" && f.typ != "" {
				return usage("attest: --type is that of a --predicate; a document says itself what it is")
			}
			raw, err := a.readFile(cmp.Or(f.predicate, f.document), attest.MaxDocumentSize)
			if err != nil {
				return err
			}
			image, err := a.attestedOn(cmd.Context(), given[0], f.platform)
			if err != nil {
				return err
			}
			content := attest.Content{MediaType: cmp.Or(f.mediaType, attest.MediaTypeOf(raw)), Data: raw}
			predicate := ""
			if f.predicate != "" {
				if predicate, err = predicateType(f.typ, true); err != nil {
					return err
				}
				if content.Data, err = statement(image, predicate, raw); err != nil {
					return fmt.Errorf("attest %s: %w", f.predicate, err)
				}
				content.MediaType = inTotoType
			}
			if content.MediaType == "" {
				return usage("attest: it does not show what %s is: say its --media-type", f.document)
			}
			return a.attach(cmd.Context(), image, f, content, predicate)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.typ, "type", "", "`TYPE` of the predicate")
	flags.StringVar(&f.predicate, "predicate", "", "put what is in this `FILE` into a statement about the image")
	flags.StringVar(&f.document, "document", "", "attach this `FILE` as it is")
	flags.StringVar(&f.mediaType, "media-type", "", "media `TYPE` of the document (default: as its content shows)")
	flags.StringVar(&f.artifactType, "artifact-type", "", "`TYPE` of the artifact (default: the media type)")
	flags.StringToStringVar(&f.annotations, "annotation", nil, "`KEY=VALUE` to note on the artifact; may be repeated")
	flags.StringVarP(&f.platform, "platform", "p", "", "attach it to the image for this `OS/ARCH`")
	flags.BoolVar(&f.dryRun, "dry-run", false, "check it, and attach nothing")
	cmd.AddCommand(a.attestListCommand(), a.attestGetCommand())
	return cmd
}

// attestedOn is an image, or that of one of its platforms.
func (a *app) attestedOn(ctx context.Context, s, platform string) (attested, error) {
	image, err := a.attested(ctx, s)
	if err == nil && platform != "" {
		image, _, err = image.platform(ctx, platform)
	}
	return image, err
}

// statement says a predicate of an image. A predicate of a type that is known must be
// one: a report of a scanner is none, though it is JSON.
func statement(image attested, predicateType string, predicate []byte) ([]byte, error) {
	if !json.Valid(predicate) {
		return nil, usage("a predicate is JSON, and this is not")
	}
	name := image.end.Path
	if image.end.Kind == ghcr.EndRegistry {
		name = image.end.Ref.Repository()
	}
	raw, err := json.Marshal(attest.Statement{
		Type: attest.StatementV1, PredicateType: predicateType, Predicate: predicate,
		Subject: []attest.Subject{{Name: name, Digest: map[string]string{image.digest.Algorithm().String(): image.digest.Encoded()}}},
	})
	if err != nil {
		return nil, err
	}
	want := map[string]vuln.DocumentKind{
		"spdx": vuln.KindSBOM, "cyclonedx": vuln.KindSBOM, "provenance": vuln.KindBuild,
		"vulns": vuln.KindScan, "vuln": vuln.KindScan, "openvex": vuln.KindVEX,
	}[typeName(predicateType)]
	if want == "" {
		return raw, nil
	}
	doc, err := vuln.Parse(raw, inTotoType)
	if err != nil {
		return nil, usage("it is no predicate of the type %s: %w", predicateType, err)
	}
	if doc.Kind != want {
		return nil, usage("it is no predicate of the type %s", predicateType)
	}
	return raw, nil
}

// attach attaches one document, and prints what it has become.
func (a *app) attach(ctx context.Context, image attested, f attachFlags, content attest.Content, predicate string) error {
	done := attachment{
		Schema: schema, Subject: image.digest, ArtifactType: cmp.Or(f.artifactType, content.MediaType),
		PredicateType: predicate, Size: len(content.Data), DryRun: f.dryRun,
	}
	if f.dryRun {
		doc, err := attest.Parse(ctx, nil, attest.Attachment{
			Subject: image.digest, ArtifactType: done.ArtifactType, Layer: oci.Descriptor{MediaType: content.MediaType},
		}, content.Data)
		if err == nil {
			err = doc.About()
		}
		if err != nil {
			return usage("attach to %s: %w", image, err)
		}
		fmt.Fprintf(a.stderr, "ghcr: would attach %s (%s) to %s\n", typeName(cmp.Or(predicate, content.MediaType)), size(int64(done.Size)), image)
		return a.print(result{data: done, ids: []string{}})
	}
	d, err := attest.Attach(ctx, image.src, image.digest, f.artifactType, []attest.Content{content}, f.annotations)
	if err != nil {
		return err
	}
	done.Digest = d.Digest
	at := image.end
	at.Ref.Reference = oci.Reference{}
	done.Ref = placed(at, d.Digest)
	return a.print(result{data: done, ids: []string{d.Digest.String()}, text: done.Ref + "\n"})
}

// writeDocument prints a document as it is, or writes it to a file.
func (a *app) writeDocument(file string, raw []byte) error {
	if file != "" {
		return writeAside(file, bytes.NewReader(raw))
	}
	if len(raw) > 0 && raw[len(raw)-1] != '\n' && a.isTerminal(a.stdout) {
		raw = append(raw, '\n')
	}
	_, err := a.stdout.Write(raw)
	return err
}
