package jobs

import (
	"strings"

	"tidegate/gateway/fault"
)

// Managed is a template that comes with the service; its JSON has the names of the API
// model.
type Managed struct {
	ARN          string      `json:"templateArn"`
	Name         string      `json:"templateName"`
	Version      string      `json:"templateVersion"`
	Description  string      `json:"description"`
	Environments []string    `json:"environments"`
	Parameters   []Parameter `json:"documentParameters"`
	Document     string      `json:"document"`
}

// Parameter is a value that a managed template asks for.
type Parameter struct {
	Key         string `json:"key"`
	Description string `json:"description"`
	Regex       string `json:"regex"`
	Example     string `json:"example"`
	Optional    bool   `json:"optional"`
}

// runAs is asked for by all of them.
var runAs = Parameter{Key: "runAsUser", Description: "The user who runs the handler.", Regex: "(.){1,256}", Example: "user1", Optional: true}

var pathToHandler = Parameter{Key: "pathToHandler", Description: "The folder of the handler on the device.", Regex: "(.){1,4096}", Example: "/path/to/handler", Optional: true}

// handlerDocument is a document with one step that runs a handler.
func handlerDocument(name, handler, args string) string {
	return `{"version":"1.0","steps":[{"action":{"name":"` + name + `","type":"runHandler","input":{"handler":"` + handler + `",` + args +
		`"path":"${aws:iot:parameter:pathToHandler}"},"runAsUser":"${aws:iot:parameter:runAsUser}"}}]}`
}

// managed are the templates for the handlers that AWS's device client has, and
// gateway/jobrunner understands as far as they apply to a gateway.
var managed = []Managed{
	{Name: "AWS-Download-File", Description: "Downloads a file.",
		Parameters: []Parameter{{Key: "downloadUrl", Description: "Where the file is.", Regex: "(.){1,4096}", Example: "https://example.com/a"},
			{Key: "filePath", Description: "Where the device puts it.", Regex: "(.){1,4096}", Example: "/path/to/file"}, pathToHandler, runAs},
		Document: handlerDocument("Download-File", "download-file.sh", `"args":["${aws:iot:parameter:downloadUrl}","${aws:iot:parameter:filePath}"],`)},
	{Name: "AWS-Reboot", Description: "Restarts the device.", Parameters: []Parameter{pathToHandler, runAs},
		Document: handlerDocument("Reboot", "reboot.sh", "")},
	{Name: "AWS-Restart-Application", Description: "Restarts services.",
		Parameters: []Parameter{{Key: "services", Description: "The services, separated by commas.", Regex: "(.){1,4096}", Example: "service1"}, pathToHandler, runAs},
		Document:   handlerDocument("Restart-Application", "restart-services.sh", `"args":["${aws:iot:parameter:services}"],`)},
	{Name: "AWS-Run-Command", Description: "Runs a command.",
		Parameters: []Parameter{{Key: "command", Description: "The command and its arguments, separated by commas.", Regex: "(.){1,4096}", Example: "uname,-a"}, runAs},
		Document:   `{"version":"1.0","steps":[{"action":{"name":"Run-Command","type":"runCommand","input":{"command":"${aws:iot:parameter:command}"},"runAsUser":"${aws:iot:parameter:runAsUser}"}}]}`},
}

// managedVersion is the only version there is.
const managedVersion = "1.0"

// ManagedTemplates lists the templates that come with the service, of one name or with ""
// all.
func (r *Room) ManagedTemplates(name string) []Managed {
	list := []Managed{}
	for _, m := range managed {
		if name == "" || name == m.Name {
			m.Version, m.Environments = managedVersion, []string{"LINUX"}
			m.ARN = r.managedBase() + m.Name + ":" + m.Version
			list = append(list, m)
		}
	}
	return list
}

// ManagedPage lists the templates that come with the service, a page at a time.
func (r *Room) ManagedPage(name string, p Page) (ts []Managed, next string, err error) {
	after, err := p.start()
	if err != nil {
		return nil, "", err
	}
	ts = []Managed{}
	for _, m := range r.ManagedTemplates(name) { // they are in the order of their names
		switch {
		case m.Name <= after:
		case len(ts) == p.Max:
			return ts, token(ts[len(ts)-1].Name), nil
		default:
			ts = append(ts, m)
		}
	}
	return ts, "", nil
}

// ManagedTemplate gives one of them; version "" is the newest.
func (r *Room) ManagedTemplate(name, version string) (Managed, error) {
	list := r.ManagedTemplates(name)
	if name == "" || len(list) == 0 || version != "" && version != managedVersion {
		return Managed{}, fault.New(fault.NotFound, "Managed job template %s does not exist in that version", name)
	}
	return list[0], nil
}

// managedBase is how their ARNs begin: they belong to no account.
func (r *Room) managedBase() string {
	region := ""
	if f := strings.Split(r.Base, ":"); len(f) > 3 {
		region = f[3]
	}
	return "arn:aws:iot:" + region + "::jobtemplate/"
}

func (r *Room) managedByARN(arn string) (Managed, error) {
	rest, ok := strings.CutPrefix(arn, r.managedBase())
	name, version, _ := strings.Cut(rest, ":")
	if !ok {
		return Managed{}, invalid("jobTemplateArn is not the ARN of a job template here")
	}
	return r.ManagedTemplate(name, version)
}
