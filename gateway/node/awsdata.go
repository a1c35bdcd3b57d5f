package node

import (
	"encoding/json"
	"os"
	"path/filepath"
)

// awsModels are the services of AWS's tools that this gateway answers for, each with the
// version of its model.
var awsModels = []string{"iot/2015-05-28", "iot-data/2015-05-28", "iot-jobs-data/2017-09-29"}

// writeAWSData writes, below dir, what leads AWS's command to this gateway when
// AWS_DATA_PATH names dir: endpoint rules that know one endpoint. Commands before 2.13,
// such as Debian 12's 2.9, do not know AWS_ENDPOINT_URL.
//
// Source: botocore, loaders.py (search path) and endpoint_provider.py (rules).
func writeAWSData(dir, endpoint string) error {
	type m = map[string]any
	parameter := func(builtin, kind string) m {
		p := m{"builtIn": builtin, "type": kind, "required": kind == "Boolean"}
		if kind == "Boolean" {
			p["default"] = false
		}
		return p
	}
	rule := func(url any, conditions ...m) m {
		return m{"type": "endpoint", "conditions": append([]m{}, conditions...), "endpoint": m{"url": url, "properties": m{}, "headers": m{}}}
	}
	ref := m{"ref": "Endpoint"}
	rules, err := json.Marshal(m{"version": "1.0",
		"parameters": m{"Region": parameter("AWS::Region", "String"), "Endpoint": parameter("SDK::Endpoint", "String"),
			"UseDualStack": parameter("AWS::UseDualStack", "Boolean"), "UseFIPS": parameter("AWS::UseFIPS", "Boolean")},
		"rules": []m{
			rule(ref, m{"fn": "isSet", "argv": []m{ref}}), // --endpoint-url has its way
			rule(endpoint),
		}})
	if err != nil {
		return err
	}
	for _, model := range awsModels {
		file := filepath.Join(dir, model, "endpoint-rule-set-1.json")
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, rules, 0o644); err != nil {
			return err
		}
	}
	return nil
}
