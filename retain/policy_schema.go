package retain

// Schema returns the JSON schema of policy files, for editors. It is also published as
// docs/policy.schema.json. What it takes, [Parse] may still refuse: an expression that
// is none, or keys that contradict each other.
func Schema() []byte {
	s := schemaOf(policyKeys())
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["$id"] = "https://github.com/llm-dev-ops/ghcr/blob/main/docs/policy.schema.json"
	s["title"] = "Retention policy of ghcr, version 1"
	return encode(s, "  ")
}
