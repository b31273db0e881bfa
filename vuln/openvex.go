package vuln

import (
	"encoding/json"
	"strings"

	"github.com/llm-dev-ops/ghcr/oci"
)

// openVEX is a document of OpenVEX 0.2. What version 0.0.1 has as plain strings, and
// 0.2 as objects, is read by types of its own.
type openVEX struct {
	Context    string             `json:"@context"`
	ID         string             `json:"@id"`
	Author     string             `json:"author"`
	Timestamp  string             `json:"timestamp"`
	Updated    string             `json:"last_updated,omitempty"`
	Version    json.RawMessage    `json:"version"`
	Tooling    string             `json:"tooling,omitempty"`
	Statements []openVEXStatement `json:"statements"`
}

type openVEXStatement struct {
	Vulnerability openVEXName      `json:"vulnerability"`
	Timestamp     string           `json:"timestamp,omitempty"`
	Updated       string           `json:"last_updated,omitempty"`
	Products      []openVEXProduct `json:"products,omitempty"`
	Status        VEXStatus        `json:"status"`
	StatusNotes   string           `json:"status_notes,omitempty"`
	Justification string           `json:"justification,omitempty"`
	Impact        string           `json:"impact_statement,omitempty"`
	Action        string           `json:"action_statement,omitempty"`

	Subcomponents []openVEXProduct `json:"subcomponents,omitempty"` // of version 0.0.1
}

type openVEXName struct {
	ID      string   `json:"@id,omitempty"`
	Name    string   `json:"name"`
	Aliases []string `json:"aliases,omitempty"`
}

// UnmarshalJSON reads a name also where it is a plain string.
func (n *openVEXName) UnmarshalJSON(text []byte) error {
	type plain openVEXName
	if len(text) > 0 && text[0] == '"' {
		return json.Unmarshal(text, &n.Name)
	}
	return json.Unmarshal(text, (*plain)(n))
}

type openVEXProduct struct {
	ID            string            `json:"@id,omitempty"`
	Identifiers   map[string]string `json:"identifiers,omitempty"`
	Hashes        map[string]string `json:"hashes,omitempty"`
	Subcomponents []openVEXProduct  `json:"subcomponents,omitempty"`
}

// UnmarshalJSON reads a product also where it is a plain string.
func (p *openVEXProduct) UnmarshalJSON(text []byte) error {
	type plain openVEXProduct
	if len(text) > 0 && text[0] == '"' {
		return json.Unmarshal(text, &p.ID)
	}
	return json.Unmarshal(text, (*plain)(p))
}

// names are all that the product is called by: a hash of an image is its digest.
func (p openVEXProduct) names() []string {
	names := addUnique(nil, p.ID, p.Identifiers["purl"])
	for algorithm, hash := range p.Hashes {
		if d, err := oci.ParseDigest(strings.ReplaceAll(algorithm, "-", "") + ":" + hash); err == nil {
			names = addUnique(names, d.String())
		}
	}
	return names
}

func parseOpenVEX(text []byte) (*Document, error) {
	var file openVEX
	if err := decode("OpenVEX", text, &file); err != nil {
		return nil, err
	}
	if !strings.HasPrefix(file.Context, "https://openvex.dev/ns") {
		return nil, oci.Invalid("OpenVEX: context %q", file.Context)
	}
	vex := VEX{ID: file.ID, Author: file.Author, Timestamp: laterTime(file.Timestamp, file.Updated)}
	for _, f := range file.Statements {
		s := VEXStatement{
			IDs:    addUnique(nil, append([]string{f.Vulnerability.Name}, f.Vulnerability.Aliases...)...),
			Status: f.Status, Justification: f.Justification, Timestamp: laterTime(f.Timestamp, f.Updated),
		}
		if id := f.Vulnerability.ID; id != "" {
			s.IDs = addUnique(s.IDs, id[strings.LastIndexByte(id, '/')+1:]) // at times the address of its page
		}
		s.Text = f.Impact
		if s.Status != VEXNotAffected || s.Justification != "" {
			fill(&s.Text, f.Action)
			fill(&s.Text, f.StatusNotes)
		}
		for _, p := range f.Products {
			product := VEXProduct{IDs: p.names()}
			for _, sub := range append(p.Subcomponents, f.Subcomponents...) {
				names := sub.names()
				if len(names) == 0 {
					names = []string{"unnamed"} // that no package is called: it must not widen to the whole product
				}
				product.Subcomponents = append(product.Subcomponents, names...)
			}
			s.Products = append(s.Products, product)
		}
		vex.Statements = append(vex.Statements, s)
	}
	return &Document{Kind: KindVEX, VEX: &vex}, nil
}
