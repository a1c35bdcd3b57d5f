package awstopic

// What a client may do with a topic (spec/mqtt.md §11).
const (
	pub    = 1 << iota // P: publish to it
	sub                // S: subscribe to it
	direct             // R: gets it as the answer to its request, and nobody else does
)

// The table. {t}, {n} and {r} are one level each, for Thing, Name and Rest; {*} is Rest
// with one level or more. <op:a,b> stands for one of the words and sets Op; <re:…> sets
// Reply and <f> is <f:json,cbor>. A literal wins over {…}.
var table = []struct {
	service Service
	pattern string
	dir     int
}{
	{Shadow, "things/{t}/shadow/<op:get,update,delete>", pub | sub},
	{Shadow, "things/{t}/shadow/<op:get,update,delete>/<re:accepted,rejected>", sub},
	{Shadow, "things/{t}/shadow/<op:update>/<re:delta,documents>", sub},
	{Shadow, "things/{t}/shadow/name/{n}/<op:get,update,delete>", pub | sub},
	{Shadow, "things/{t}/shadow/name/{n}/<op:get,update,delete>/<re:accepted,rejected>", sub},
	{Shadow, "things/{t}/shadow/name/{n}/<op:update>/<re:delta,documents>", sub},

	{Jobs, "things/{t}/jobs/<op:get,start-next>", pub},
	{Jobs, "things/{t}/jobs/<op:get,start-next>/<re:accepted,rejected>", sub | direct},
	{Jobs, "things/{t}/jobs/{n}/<op:get,update>", pub},
	{Jobs, "things/{t}/jobs/{n}/<op:get,update>/<re:accepted,rejected>", sub | direct},
	{Jobs, "things/{t}/jobs/<op:notify,notify-next>", sub},
	{Jobs, "things/{t}/jobs/notify-namespace-{n}", sub},
	{Jobs, "things/{t}/jobs/{*}", pub}, // answered with InvalidTopic, spec/jobs.md §3.4

	{Rules, "rules/{n}", pub},
	{Rules, "rules/{n}/{*}", pub},

	{Defender, "things/{t}/defender/metrics/<f>", pub},
	{Defender, "things/{t}/defender/metrics/<f>/<re:accepted,rejected>", sub},

	{Tunnels, "things/{t}/tunnels/<op:notify>", sub},

	{Streams, "things/{t}/streams/{n}/<op:get,describe>/<f>", pub},
	{Streams, "things/{t}/streams/{n}/<op:data,description>/<f>", sub},
	{Streams, "things/{t}/streams/{n}/<re:rejected>/<f>", sub},

	{Certificates, "certificates/<op:create,create-from-csr>/<f>", pub},
	{Certificates, "certificates/<op:create,create-from-csr>/<f>/<re:accepted,rejected>", sub | direct},
	{Provisioning, "provisioning-templates/{n}/provision/<f>", pub},
	{Provisioning, "provisioning-templates/{n}/provision/<f>/<re:accepted,rejected>", sub | direct},

	{Events, "events/<re:certificates>/<op:registered>/{n}", sub},
	{Events, "events/<re:job>/{n}/<op:completed,canceled,deleted,cancellation_in_progress,deletion_in_progress>", sub},
	{Events, "events/<re:jobExecution>/{n}/<op:succeeded,failed,rejected,canceled,timed_out,removed,deleted>", sub},
	{Events, "events/<re:presence>/<op:connected,disconnected,connect_failed>/{n}", sub},
	{Events, "events/<re:subscriptions>/<op:subscribed,unsubscribed>/{n}", sub},
	{Events, "events/<re:thing>/{t}/<op:created,updated,deleted>", sub},
	{Events, "events/<re:thingGroup>/{n}/<op:created,updated,deleted>", sub},
	{Events, "events/<re:thingType>/{n}/<op:created,updated,deleted>", sub},
	{Events, "events/<re:thingTypeAssociation>/thing/{t}/{n}", sub},
	{Events, "events/<re:thingTypeAssociation>/thing/{t}/thingType/{n}/<op:added,removed>", sub},
	{Events, "events/<re:thingGroupMembership>/thingGroup/{n}/thing/{t}/<op:added,removed>", sub},
	{Events, "events/<re:thingGroupHierarchy>/thingGroup/{n}/childThingGroup/{r}/<op:added,removed>", sub},

	{Commands, "commands/<op:things,clients>/{t}/executions/{n}/request/<f>", sub},
	{Commands, "commands/<op:things,clients>/{t}/executions/{n}/<re:response>/<f>", pub},
	{Commands, "commands/<op:things,clients>/{t}/executions/{n}/response/<f>/<re:accepted,rejected>", sub},
	{Location, "device_location/{t}/get_position_estimate", pub},
	{Location, "device_location/{t}/get_position_estimate/<re:accepted,rejected>", sub},
	{SiteWise, "sitewise/asset-models/{n}/assets/{t}/properties/{r}", sub},
	{Wireless, "<op:iotwireless,sidewalk>/{*}", sub},
	{Alexa, "alexa/ais/v1/{n}/{*}", pub | sub},
}
