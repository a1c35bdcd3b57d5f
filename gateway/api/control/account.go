package control

import (
	"maps"
	"net/url"
	"slices"
	"strings"

	"tidegate/gateway/api/restjson"
	"tidegate/gateway/fault"
	"tidegate/gateway/registry"
)

// eventTypes are the kinds of registry events that can be switched.
var eventTypes = []string{"THING", "THING_GROUP", "THING_TYPE", "THING_GROUP_MEMBERSHIP", "THING_GROUP_HIERARCHY", "THING_TYPE_ASSOCIATION",
	"JOB", "JOB_EXECUTION", "POLICY", "CERTIFICATE", "CA_CERTIFICATE"}

type enabled struct {
	Enabled bool `json:"Enabled"`
}

func (c *Control) account() []restjson.Op {
	reg := c.Registry
	return []restjson.Op{
		restjson.Handle("DescribeEndpoint", "GET", "/endpoint", func(call *restjson.Call, in *struct {
			Type string `at:"query,endpointType"`
		}) (any, error) {
			switch in.Type {
			case "", "iot:Data", "iot:Data-ATS", "iot:Data-Beta", "iot:CredentialProvider", "iot:Jobs":
				return map[string]string{"endpointAddress": c.host(call.Request.Host)}, nil
			}
			return nil, fault.New(fault.Invalid, "the endpoint type %s is unknown", in.Type)
		}),
		restjson.Handle("DescribeEventConfigurations", "GET", "/event-configurations", func(*restjson.Call, *struct{}) (any, error) {
			var e registry.EventSwitches
			reg.Setting(registry.EventSetting, &e)
			all := map[string]enabled{}
			for _, t := range eventTypes {
				all[t] = enabled{e.On[t]}
			}
			out := map[string]any{"eventConfigurations": all}
			if !e.Created.IsZero() {
				out["creationDate"], out["lastModifiedDate"] = restjson.Time(e.Created), restjson.Time(e.Changed)
			}
			return out, nil
		}),
		restjson.Handle("UpdateEventConfigurations", "PATCH", "/event-configurations", func(call *restjson.Call, in *struct {
			Configurations map[string]enabled `json:"eventConfigurations"`
		}) (any, error) {
			for name := range in.Configurations {
				if !slices.Contains(eventTypes, name) {
					return nil, fault.New(fault.Invalid, "the event type %s is unknown", name)
				}
			}
			return empty, c.do(call, func(tx *registry.Tx) error {
				var have registry.EventSwitches
				tx.Setting(registry.EventSetting, &have)
				e := registry.EventSwitches{On: map[string]bool{}, Created: have.Created, Changed: c.Clock.Now()}
				if e.Created.IsZero() {
					e.Created = e.Changed
				}
				maps.Copy(e.On, have.On)
				for name, v := range in.Configurations {
					e.On[name] = v.Enabled
				}
				tx.Set(registry.EventSetting, e)
				return nil
			})
		}),
		restjson.Handle("TagResource", "POST", "/tags", func(call *restjson.Call, in *struct {
			ARN  string `json:"resourceArn" need:""`
			Tags []tag  `json:"tags" need:""`
		}) (any, error) {
			return empty, c.do(call, func(tx *registry.Tx) error { return tx.Tag(in.ARN, tagMap(in.Tags)) })
		}),
		restjson.Handle("UntagResource", "POST", "/untag", func(call *restjson.Call, in *struct {
			ARN  string   `json:"resourceArn" need:""`
			Keys []string `json:"tagKeys" need:""`
		}) (any, error) {
			return empty, c.do(call, func(tx *registry.Tx) error { return tx.Untag(in.ARN, in.Keys) })
		}),
		restjson.Handle("ListTagsForResource", "GET", "/tags", func(_ *restjson.Call, in *struct {
			ARN string `at:"query,resourceArn" need:""`
		}) (any, error) {
			tags, err := reg.Tags(in.ARN)
			if err != nil {
				return nil, err
			}
			out := []tag{}
			for _, k := range slices.Sorted(maps.Keys(tags)) {
				out = append(out, tag{k, tags[k]})
			}
			return map[string]any{"tags": out}, nil
		}),
	}
}

// host gives the name and port that clients reach this gateway by: those somebody has just
// used, or what the configuration says for who has used none, at the machine itself. MQTT
// is on the same port, by ALPN, as it is with AWS.
func (c *Control) host(asked string) string {
	u, err := url.Parse("https://" + asked)
	if err != nil || u.Host != asked || u.Hostname() == "" || !strings.ContainsAny(asked, ".:") && asked != "localhost" {
		return c.cfg.Endpoint
	}
	return asked
}
