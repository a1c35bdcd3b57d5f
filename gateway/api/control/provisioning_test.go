package control_test

import (
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/operators"
)

const fleetBody = `{"Parameters":{"Serial":{"Type":"String"}},"Resources":{
 "thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"Serial"}}},
 "certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":{"Ref":"AWS::IoT::Certificate::Id"}}}}}`

const taskBody = `{"Parameters":{"Name":{"Type":"String"}},"Resources":{"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"Name"}}}}}`

// document makes a request body.
func document(members map[string]any) string {
	b, _ := json.Marshal(members)
	return string(b)
}

// expect sends a request and compares how it was answered: a status, or an exception.
func (r *rig) expect(want any, method, path string, members map[string]any) reply {
	r.Helper()
	body := ""
	if members != nil {
		body = document(members)
	}
	got := r.call(r.key, method, path, body)
	if got.kind != "" && got.kind != want || got.kind == "" && got.status != want {
		r.Errorf("%s %s: %d %s %v, want %v", method, path, got.status, got.kind, got.body, want)
	}
	return got
}

func TestProvisioningTemplatesOverTheWire(t *testing.T) {
	r := newRig(t)
	create := map[string]any{"templateName": "gh", "templateBody": fleetBody, "provisioningRoleArn": "arn:aws:iam::0:role/r", "tags": []map[string]string{{"Key": "a", "Value": "b"}},
		"preProvisioningHook": map[string]string{"targetArn": "arn:aws:lambda:local-1:000000000000:function:gate"}}
	if got := r.expect(200, "POST", "/provisioning-templates", create); got.text("templateArn") != "arn:aws:iot:local-1:000000000000:provisioningtemplate/gh" || got.body["defaultVersionId"] != 1.0 {
		t.Errorf("created %v", got.body)
	}
	r.expect("ResourceAlreadyExistsException", "POST", "/provisioning-templates", create)
	r.expect("InvalidRequestException", "POST", "/provisioning-templates", map[string]any{"templateName": "x", "templateBody": taskBody, "provisioningRoleArn": "r"})
	r.expect("InvalidRequestException", "POST", "/provisioning-templates", map[string]any{"templateName": "x", "templateBody": strings.Repeat(" ", 10241), "provisioningRoleArn": "r"})
	r.expect("InvalidRequestException", "POST", "/provisioning-templates/gh/provisioning-claim", nil) // not enabled
	r.expect(200, "PATCH", "/provisioning-templates/gh", map[string]any{"enabled": true, "description": "greenhouses"})
	if got := r.expect(200, "GET", "/provisioning-templates/gh", nil); got.body["enabled"] != true || got.text("description") != "greenhouses" || got.text("type") != "FLEET_PROVISIONING" ||
		got.body["preProvisioningHook"].(map[string]any)["payloadVersion"] != "2020-04-01" || got.text("templateBody") != fleetBody {
		t.Errorf("described %v", got.body)
	}
	r.expect(200, "PATCH", "/provisioning-templates/gh", map[string]any{"removePreProvisioningHook": true})
	if got := r.expect(200, "POST", "/provisioning-templates/gh/versions?setAsDefault=true", map[string]any{"templateBody": fleetBody}); got.body["versionId"] != 2.0 {
		t.Errorf("version %v", got.body)
	}
	r.expect("DeleteConflictException", "DELETE", "/provisioning-templates/gh/versions/2", nil)
	r.expect("DeleteConflictException", "DELETE", "/provisioning-templates/gh", nil)
	if got := r.expect(200, "GET", "/provisioning-templates/gh/versions", nil); len(got.body["versions"].([]any)) != 2 {
		t.Errorf("versions %v", got.body)
	}
	r.expect(200, "DELETE", "/provisioning-templates/gh/versions/1", nil)
	r.expect("ResourceNotFoundException", "GET", "/provisioning-templates/gh/versions/1", nil)
	if got := r.expect(200, "GET", "/provisioning-templates/gh/versions/2", nil); got.body["isDefaultVersion"] != true {
		t.Errorf("version %v", got.body)
	}
	claim := r.expect(200, "POST", "/provisioning-templates/gh/provisioning-claim", nil)
	if left := time.Until(time.Unix(int64(claim.body["expiration"].(float64)), 0)); left < 4*time.Minute || left > 6*time.Minute || claim.body["keyPair"].(map[string]any)["PrivateKey"] == "" {
		t.Errorf("claim %v", claim.body)
	}
	if got := r.expect(200, "GET", "/provisioning-templates", nil); len(got.body["templates"].([]any)) != 1 {
		t.Errorf("listed %v", got.body)
	}
	r.expect(200, "DELETE", "/provisioning-templates/gh", nil)
	r.expect("ResourceNotFoundException", "GET", "/provisioning-templates/gh", nil)
}

func TestRegistrationTasksOverTheWire(t *testing.T) {
	r := newRig(t)
	if err := os.MkdirAll(filepath.Join(r.files, "input", "fleet"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.files, "input", "fleet", "in"), []byte("{\"Name\":\"a\"}\n{\"Name\":\"b c\"}\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	in := map[string]any{"templateBody": taskBody, "inputFileBucket": "fleet", "inputFileKey": "in", "roleArn": "arn:aws:iam::0:role/r"}
	id := r.expect(200, "POST", "/thing-registration-tasks", in).text("taskId")
	var got reply
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline) && got.text("status") != "Completed"; {
		got = r.expect(200, "GET", "/thing-registration-tasks/"+id, nil)
	}
	if got.text("status") != "Completed" || got.body["successCount"] != 1.0 || got.body["failureCount"] != 1.0 || got.body["percentageProgress"] != 100.0 {
		t.Errorf("described %v", got.body)
	}
	links := r.expect(200, "GET", "/thing-registration-tasks/"+id+"/reports?reportType=ERRORS", nil).body["resourceLinks"].([]any)
	u, err := url.Parse(links[0].(string))
	if err != nil || u.Scheme != "file" {
		t.Fatalf("links %v, %v", links, err)
	}
	if text, err := os.ReadFile(u.Path); err != nil || !strings.Contains(string(text), `"lineNumber":2`) {
		t.Errorf("report %s, %v", text, err)
	}
	if got := r.expect(200, "GET", "/thing-registration-tasks?status=Completed", nil); len(got.body["taskIds"].([]any)) != 1 {
		t.Errorf("listed %v", got.body)
	}
	r.expect("InvalidRequestException", "PUT", "/thing-registration-tasks/"+id+"/cancel", nil)
	r.expect("ResourceNotFoundException", "GET", "/thing-registration-tasks/none", nil)
	in["inputFileKey"] = "../../../etc/passwd"
	r.expect("InvalidRequestException", "POST", "/thing-registration-tasks", in)
}

func TestAuthorizersOverTheWire(t *testing.T) {
	r := newRig(t)
	fn := "arn:aws:lambda:local-1:000000000000:function:"
	r.expect("InvalidRequestException", "POST", "/authorizer/door", map[string]any{"authorizerFunctionArn": fn + "open"}) // no keys
	r.expect(200, "POST", "/authorizer/door", map[string]any{"authorizerFunctionArn": fn + "open", "signingDisabled": true, "status": "ACTIVE"})
	r.expect(200, "POST", "/authorizer/odd", map[string]any{"authorizerFunctionArn": fn + "odd", "signingDisabled": true, "status": "ACTIVE"})
	r.expect("ResourceNotFoundException", "GET", "/default-authorizer", nil)
	r.expect(200, "POST", "/default-authorizer", map[string]any{"authorizerName": "door"})
	r.expect("ResourceAlreadyExistsException", "POST", "/default-authorizer", map[string]any{"authorizerName": "odd"})
	r.expect("DeleteConflictException", "DELETE", "/authorizer/door", nil)
	if got := r.expect(200, "GET", "/default-authorizer", nil).body["authorizerDescription"].(map[string]any); got["authorizerName"] != "door" || got["signingDisabled"] != true {
		t.Errorf("described %v", got)
	}
	got := r.expect(200, "POST", "/authorizer/door/test", map[string]any{"mqttContext": map[string]any{"username": "u", "password": "cGFzcw==", "clientId": "c"}, "tlsContext": map[string]any{"serverName": "gw"}})
	if got.body["isAuthenticated"] != true || got.text("principalId") != "ada" || got.body["refreshAfterInSeconds"] != 300.0 || len(got.body["policyDocuments"].([]any)) != 1 {
		t.Errorf("invoked %v", got.body)
	}
	r.expect("InvalidResponseException", "POST", "/authorizer/odd/test", map[string]any{})
	r.expect("ResourceNotFoundException", "POST", "/authorizer/none/test", map[string]any{})
	r.expect(200, "PUT", "/authorizer/odd", map[string]any{"status": "INACTIVE", "authorizerFunctionArn": fn + "gone"})
	if got := r.expect(200, "GET", "/authorizers/?status=INACTIVE", nil); len(got.body["authorizers"].([]any)) != 1 {
		t.Errorf("listed %v", got.body)
	}
	r.expect(200, "DELETE", "/default-authorizer", nil)
	r.expect(200, "DELETE", "/authorizer/door", nil)
}

func TestRefusedRequestsAreTold(t *testing.T) {
	r := newRig(t)
	viewer, err := r.ops.Create("vic", operators.Viewer)
	if err != nil {
		t.Fatal(err)
	}
	r.call(operators.Key{}, "POST", "/things/x", "")
	if got := r.refused.Load(); got == nil || got.What != "CreateThing" || got.Principal != "" || !got.Remote.IsLoopback() {
		t.Errorf("unsigned: %+v", got)
	}
	r.call(viewer, "POST", "/things/x", "")
	if got := r.refused.Load(); got == nil || got.What != "CreateThing" || got.Principal != "operator/vic" {
		t.Errorf("by a viewer: %+v", got)
	}
	r.expect("MalformedPolicyException", "POST", "/policies/p", map[string]any{"policyDocument": `{"Version":"2012-10-17","Statement":[]`})
	if got := r.refused.Load(); got == nil || got.What != "CreatePolicy" || got.Principal != "operator/ada" {
		t.Errorf("a broken policy: %+v", got)
	}
	r.refused.Store(nil)
	r.expect("ResourceNotFoundException", "GET", "/things/none", nil)
	if got := r.refused.Load(); got != nil {
		t.Errorf("a look at nothing: %+v", got)
	}
}
