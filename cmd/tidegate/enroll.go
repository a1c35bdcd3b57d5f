package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"tidegate/gateway/fault"
	"tidegate/gateway/localapi/localclient"
)

// enrolled is what enroll has done.
type enrolled struct {
	Thing       string   `json:"thing"`
	Certificate string   `json:"certificateId"`
	Policy      string   `json:"policy"`
	Files       []string `json:"files"`
	Try         string   `json:"try,omitempty"` // a shell command
}

// enrollCmd registers a thing, makes its key and certificate, attaches them, and writes
// the files any MQTT client takes.
func enrollCmd(w *world) *cobra.Command {
	a := &asking{w: w}
	var out, policy, kind string
	var attrs []string
	c := a.flags(&cobra.Command{Use: "enroll THING", Short: "register a thing and write its key and certificate", Args: cobra.ExactArgs(1),
		Long: `Register a thing unless it is known already, make a key and a certificate for it, attach
the certificate to the thing and a policy to the certificate, and write device.pem,
device.key (mode 0600) and ca.pem. It prints a command to try them with.

Without --policy the certificate gets the policy "device", which is made when it is not
there: connect under the thing's name, publish and subscribe below that name, and to the
thing's shadows and jobs.`,
		RunE: func(c *cobra.Command, args []string) error {
			m, err := pairs("attr", attrs)
			if err != nil {
				return err
			}
			e, err := enroll(c.Context(), a, args[0], out, policy, kind, m)
			if err != nil {
				return err
			}
			return a.print(e, func() {
				fmt.Fprintf(w.errOut, "%s has the certificate %s with the policy %s\n", e.Thing, e.Certificate, e.Policy)
				for _, f := range e.Files {
					fmt.Fprintln(w.errOut, "  "+f)
				}
				if e.Try == "" {
					fmt.Fprintf(w.errOut, "tidegate: the policy %s seems to allow %s nothing that could be tried\n", e.Policy, e.Thing)
					return
				}
				fmt.Fprintln(w.errOut, "try:")
				fmt.Fprintln(w.out, e.Try)
			})
		}})
	c.Flags().StringVar(&out, "out", ".", "`DIR` for the files")
	c.Flags().StringVar(&policy, "policy", "", "the `POLICY` to attach (default \"device\")")
	c.Flags().StringVar(&kind, "type", "", "the thing's `TYPE`")
	c.Flags().StringArrayVar(&attrs, "attr", nil, "an attribute of the thing, as `NAME=VALUE`; may be repeated")
	return c
}

// devicePolicy is what a device may do unless somebody says otherwise: everything in its
// own name. ARN stands for the beginning of all ARNs here.
const devicePolicy = `{"Version":"2012-10-17","Statement":[
{"Effect":"Allow","Action":"iot:Connect","Resource":"ARNclient/${iot:Connection.Thing.ThingName}"},
{"Effect":"Allow","Action":["iot:Publish","iot:Receive","iot:RetainPublish"],"Resource":["ARNtopic/${iot:Connection.Thing.ThingName}/*","ARNtopic/$aws/things/${iot:Connection.Thing.ThingName}/*"]},
{"Effect":"Allow","Action":"iot:Subscribe","Resource":["ARNtopicfilter/${iot:Connection.Thing.ThingName}/*","ARNtopicfilter/$aws/things/${iot:Connection.Thing.ThingName}/*"]}]}`

func enroll(ctx context.Context, a *asking, name, dir, policy, kind string, attrs map[string]string) (e enrolled, err error) {
	cl := a.client()
	status, err := cl.Status(ctx)
	if err != nil {
		return e, err
	}
	if policy == "" {
		policy = "device"
		text := strings.ReplaceAll(devicePolicy, "ARN", status.ARN)
		if err := order(ctx, cl, "POST", under("policies", policy), nil, map[string]any{"policyDocument": text}); err != nil && !fault.Is(err, fault.Conflict) {
			return e, err
		}
	}
	doc, err := iot[policyOut](ctx, cl, "GET", under("policies", policy), nil, nil)
	if err != nil {
		return e, err
	}
	p, err := newPocket(dir)
	if err != nil {
		return e, err
	}
	csr, err := p.request(name)
	if err != nil {
		return e, err
	}
	made, err := register(ctx, cl, name, csr, policy, kind, attrs)
	if err != nil {
		return e, err
	}
	e = enrolled{Thing: name, Certificate: lastOf(made.ARNs["certificate"]), Policy: policy, Files: []string{p.path("device.pem"), p.path("device.key"), p.path("ca.pem")}}
	if err := p.write(made.PEM, filepath.Join(a.folder(), "pki", "ca.pem")); err != nil {
		return e, err
	}
	if topic, err := topicToTry(ctx, cl, made.ARNs["certificate"], status.ARN, name, doc.Document); err == nil && topic != "" {
		e.Try = tryLine(p, status.Listeners["mqtts"], name, topic)
	}
	return e, nil
}

// registered is the answer of RegisterThing.
type registered struct {
	PEM  string            `json:"certificatePem"`
	ARNs map[string]string `json:"resourceArns"`
}

// register makes thing, certificate and what ties them in one transaction: all of it
// happens or nothing.
func register(ctx context.Context, cl *localclient.Client, name, csr, policy, kind string, attrs map[string]string) (registered, error) {
	thing := map[string]any{"ThingName": name}
	if kind != "" {
		thing["ThingTypeName"] = kind
	}
	if len(attrs) > 0 {
		thing["AttributePayload"] = attrs
	}
	template, err := json.Marshal(map[string]any{"Resources": map[string]any{
		"thing":       map[string]any{"Type": "AWS::IoT::Thing", "Properties": thing},
		"certificate": map[string]any{"Type": "AWS::IoT::Certificate", "Properties": map[string]any{"CertificateSigningRequest": csr, "Status": "ACTIVE"}},
		"policy":      map[string]any{"Type": "AWS::IoT::Policy", "Properties": map[string]any{"PolicyName": policy}},
	}})
	if err != nil {
		return registered{}, err
	}
	return iot[registered](ctx, cl, "POST", "/things", nil, map[string]any{"templateBody": string(template)})
}

// topicToTry finds a topic that the thing may publish on, "" when none was found: the
// gateway is asked about a guess and about what the policy itself names.
func topicToTry(ctx context.Context, cl *localclient.Client, principal, arn, name, document string) (string, error) {
	type info struct {
		Action    string   `json:"actionType"`
		Resources []string `json:"resources"`
	}
	try := info{Action: "PUBLISH", Resources: []string{arn + "topic/" + name + "/hello"}}
	for _, r := range topicsOf(document, name) {
		if !slices.Contains(try.Resources, arn+r) && len(try.Resources) < 20 {
			try.Resources = append(try.Resources, arn+r)
		}
	}
	out, err := iot[struct {
		Results []struct {
			Info     info   `json:"authInfo"`
			Decision string `json:"authDecision"`
		} `json:"authResults"`
	}](ctx, cl, "POST", "/test-authorization", url.Values{"clientId": {name}},
		map[string]any{"principal": principal, "authInfos": []info{{"CONNECT", []string{arn + "client/" + name}}, try}})
	if err != nil {
		return "", err
	}
	topic, may := "", false
	for _, r := range out.Results {
		switch allowed := r.Decision == "ALLOWED"; {
		case !allowed:
		case r.Info.Action == "CONNECT":
			may = true
		case topic == "":
			topic = strings.TrimPrefix(r.Info.Resources[0], arn+"topic/")
		}
	}
	if !may {
		return "", nil
	}
	return topic, nil
}

// topicsOf gives the topics a policy document names, with the variables a thing's name
// stands for and something in place of wildcards.
func topicsOf(document, name string) (topics []string) {
	var doc struct {
		Statement many[struct{ Resource many[string] }]
	}
	if json.Unmarshal([]byte(document), &doc) != nil {
		return nil
	}
	fill := strings.NewReplacer("${iot:Connection.Thing.ThingName}", name, "${iot:ClientId}", name, "*", "hello", "?", "x")
	for _, s := range doc.Statement {
		for _, r := range s.Resource {
			if _, t, ok := strings.Cut(r, ":topic/"); ok && !strings.HasPrefix(t, "$") || strings.HasPrefix(t, "${") {
				topics = append(topics, "topic/"+fill.Replace(t))
			} else if r == "*" {
				topics = append(topics, "topic/"+name+"/hello")
			}
		}
	}
	return topics
}

// many is one or a list of them, as policy documents have it.
type many[T any] []T

// UnmarshalJSON reads either.
func (m *many[T]) UnmarshalJSON(b []byte) error {
	if err := json.Unmarshal(b, (*[]T)(m)); err == nil {
		return nil
	}
	var one T
	if err := json.Unmarshal(b, &one); err != nil {
		return err
	}
	*m = []T{one}
	return nil
}

// tryLine is a command for the shell that publishes in the name of the thing.
func tryLine(p *pocket, addr, name, topic string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "" // there is no such listener
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() || ip.IsLoopback() {
		host = "localhost" // a name of the certificate
	}
	words := []string{"mosquitto_pub", "-h", host, "-p", port, "--cafile", p.path("ca.pem"), "--cert", p.path("device.pem"), "--key", p.path("device.key"),
		"-i", name, "-q", "1", "-t", topic, "-m", "hello from " + name}
	for i, w := range words {
		words[i] = quote(w)
	}
	return strings.Join(words, " ")
}

// quote makes one word of a text for the shell.
func quote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:,@%+=") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
