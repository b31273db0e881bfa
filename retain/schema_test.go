package retain

import (
	"fmt"
	"math"
	"reflect"
	"regexp"
)

// conforms checks JSON against the part of JSON schema that ours is written in. What
// it does not know it refuses, so that a new keyword gets its line here.
func conforms(schema object, v any) error {
	m, isObject := v.(map[string]any)
	list, isList := v.([]any)
	text, isText := v.(string)
	number, isNumber := v.(float64)
	for keyword, want := range schema {
		ok := true
		switch keyword {
		case "$schema", "$id", "title", "description":
		case "type":
			switch want {
			case "object":
				ok = isObject
			case "array":
				ok = isList
			case "string":
				ok = isText
			case "integer":
				ok = isNumber && number == math.Trunc(number)
			case "boolean":
				_, ok = v.(bool)
			default:
				return fmt.Errorf("type %v?", want)
			}
		case "const":
			ok = reflect.DeepEqual(v, want)
		case "enum":
			ok = false
			for _, one := range want.([]any) {
				ok = ok || v == one
			}
		case "anyOf":
			ok = false
			for _, one := range want.([]any) {
				ok = ok || conforms(one.(object), v) == nil
			}
		case "minItems":
			ok = !isList || float64(len(list)) >= want.(float64)
		case "items":
			for _, item := range list {
				if err := conforms(want.(object), item); err != nil {
					return err
				}
			}
		case "minProperties":
			ok = !isObject || float64(len(m)) >= want.(float64)
		case "required":
			for _, name := range want.([]any) {
				if _, there := m[name.(string)]; isObject && !there {
					return fmt.Errorf("%s is missing", name)
				}
			}
		case "properties":
			for name, s := range want.(object) {
				if value, there := m[name]; there {
					if err := conforms(s.(object), value); err != nil {
						return fmt.Errorf("%s: %w", name, err)
					}
				}
			}
		case "additionalProperties":
			properties, _ := schema["properties"].(object)
			for name, value := range m {
				if _, known := properties[name]; known {
					continue
				}
				s, any := want.(object)
				if !any {
					return fmt.Errorf("unknown key %s", name)
				}
				if err := conforms(s, value); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
			}
		case "propertyNames":
			for name := range m {
				if err := conforms(want.(object), name); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
			}
		case "pattern":
			ok = !isText || regexp.MustCompile(want.(string)).MatchString(text)
		case "maxLength":
			ok = !isText || float64(len([]rune(text))) <= want.(float64)
		case "minimum":
			ok = !isNumber || number >= want.(float64)
		case "maximum":
			ok = !isNumber || number <= want.(float64)
		default:
			return fmt.Errorf("keyword %s?", keyword)
		}
		if !ok {
			return fmt.Errorf("%v is not %s %v", v, keyword, want)
		}
	}
	return nil
}
