package reserved

import (
	"encoding/base64"
	"log/slog"
	"strings"

	"tidegate/gateway/fault"
	"tidegate/gateway/jobs"
	"tidegate/gateway/jobs/streams"
	"tidegate/gateway/logs"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/mqtt/awstopic"
	"tidegate/gateway/store"
)

// Streams joins the streams room to its topics (spec/ops.md §4.2).
type Streams struct {
	room   *streams.Room
	base   string
	log    *slog.Logger
	commit Committer
}

// NewStreams makes the binding; base is "arn:aws:iot:REGION:ACCOUNT:".
func NewStreams(room *streams.Room, base string, log *slog.Logger) *Streams {
	return &Streams{room: room, base: base, log: log}
}

// OnCommit says how units are made. It is called once, before the first Call.
func (s *Streams) OnCommit(c Committer) { s.commit = c }

// Handle is the Handler of the stream topics. Blocks go out with QoS 0, as they would be
// asked for again. A last will is no request.
func (s *Streams) Handle(u *store.Unit, t awstopic.Topic, m *mqtt.Message, emit func(mqtt.Message)) error {
	if m.Origin == mqtt.Will || m.Origin == mqtt.Service {
		return nil
	}
	format := streams.JSON
	if t.Format == awstopic.CBOR {
		format = streams.CBOR
	}
	reply := awstopic.Topic{Service: awstopic.Streams, Thing: t.Thing, Name: t.Name, Format: t.Format}
	say := func(payload []byte) {
		emit(mqtt.Message{Topic: reply.String(), Payload: payload, Origin: mqtt.Service})
	}
	token, err := s.serve(u, t, m.Payload, format, func(op awstopic.Op, payload []byte) {
		reply.Op = op
		say(payload)
	})
	if err != nil {
		if fault.Of(err) == fault.Internal {
			s.log.Error("stream request failed", logs.Err(err), logs.Thing, t.Thing, "stream", t.Name)
		}
		reply.Op, reply.Reply = "", awstopic.Rejected
		say(streams.EncodeRefusal(format, streams.Code(err), shown(err), token))
	}
	return nil
}

// serve answers a request, or says nothing and why.
func (s *Streams) serve(u *store.Unit, t awstopic.Topic, payload []byte, f streams.Format, say func(awstopic.Op, []byte)) (token string, err error) {
	if t.Op == awstopic.Describe {
		if token, err = streams.ParseDescribe(f, payload); err != nil {
			return token, err
		}
		d, err := s.room.Stream(u, t.Name)
		if err == nil {
			say(awstopic.Description, d.Encode(f, token))
		}
		return token, err
	}
	q, token, err := streams.ParseGet(f, payload)
	if err != nil {
		return token, err
	}
	blocks, err := s.room.Blocks(u, t.Name, q)
	for i := range blocks {
		say(awstopic.Data, blocks[i].Encode(f, token))
	}
	return token, err
}

// s3Location is where the API model has a file.
type s3Location struct {
	Bucket  string `json:"bucket,omitempty"`
	Key     string `json:"key,omitempty"`
	Version string `json:"version,omitempty"`
}

type streamFile struct {
	ID       int        `json:"fileId"`
	Location s3Location `json:"s3Location"`
	Hash     string     `json:"sha256,omitempty"` // ours: content that was uploaded without a name
}

type streamInput struct {
	ID          string       `json:"streamId"`
	Description *string      `json:"description"`
	Files       []streamFile `json:"files"`
	Role        string       `json:"roleArn"`

	// Of a listing.
	Max       *int   `json:"maxResults"`
	Token     string `json:"nextToken"`
	Ascending *bool  `json:"isAscendingOrder"`
}

func (in *streamInput) sources() []streams.Source {
	if in.Files == nil {
		return nil
	}
	list := []streams.Source{}
	for _, f := range in.Files {
		list = append(list, streams.Source{ID: f.ID, Bucket: f.Location.Bucket, Key: f.Location.Key, Hash: f.Hash})
	}
	return list
}

func (s *Streams) made(d streams.Stream) object {
	return object{"streamId": d.ID, "streamArn": s.base + "stream/" + d.ID, "description": d.Description, "streamVersion": d.Version}
}

// most is how many streams one page of a listing holds.
const most = 250

// list gives a page of the streams, by name. The token for what follows leads on in the
// order in which the listing was begun.
func (s *Streams) list(in *streamInput) (any, error) {
	max := most
	if in.Max != nil {
		max = *in.Max
	}
	if max < 1 || max > most {
		return nil, fault.New(fault.Invalid, "maxResults must be 1 to %d", most)
	}
	up := "up "
	if in.Ascending != nil && !*in.Ascending {
		up = "down "
	}
	after := ""
	if in.Token != "" {
		b, err := base64.RawURLEncoding.DecodeString(in.Token)
		ok := false
		if after, ok = strings.CutPrefix(string(b), up); err != nil || !ok {
			return nil, fault.New(fault.Invalid, "nextToken is not one of ours, or of a listing in the other order")
		}
	}
	list, more, err := s.room.Page(after, max, up == "down ")
	items := []object{}
	for _, d := range list {
		items = append(items, s.made(d))
	}
	next := ""
	if more {
		next = base64.RawURLEncoding.EncodeToString([]byte(up + list[len(list)-1].ID))
	}
	return page(object{"streams": items}, next), err
}

// Call serves an operation of the control plane by its name in the API model (spec/ops.md
// §4.1); see Jobs.Call.
func (s *Streams) Call(op string, input []byte) (answer any, err error) {
	in, err := decode[streamInput](input)
	if err != nil {
		return nil, err
	}
	f := map[string]func(u *store.Unit) (any, error){
		"CreateStream": func(u *store.Unit) (any, error) {
			text := ""
			if in.Description != nil {
				text = *in.Description
			}
			d, err := s.room.Create(u, in.ID, text, in.Role, in.sources())
			return s.made(d), err
		},
		"UpdateStream": func(u *store.Unit) (any, error) {
			d, err := s.room.Update(u, in.ID, in.Description, in.Role, in.sources())
			return s.made(d), err
		},
		"DeleteStream": func(u *store.Unit) (any, error) { return nil, s.room.Delete(u, in.ID) },
		"DescribeStream": func(u *store.Unit) (any, error) {
			d, err := s.room.Stream(u, in.ID)
			o := s.made(d)
			files := []streamFile{}
			for _, f := range d.Files {
				files = append(files, streamFile{ID: f.ID, Location: s3Location{Bucket: f.Bucket, Key: f.Key}, Hash: f.Hash})
			}
			o["files"], o["roleArn"] = files, d.Role
			o["createdAt"], o["lastUpdatedAt"] = jobs.Seconds(d.Created), jobs.Seconds(d.Updated)
			return object{"streamInfo": o}, err
		},
		"ListStreams": func(*store.Unit) (any, error) { return s.list(&in) },
	}[op]
	if f == nil {
		return nil, fault.New(fault.Unsupported, "operation %s is not known", op)
	}
	done := make(chan error, 1)
	err = s.commit(func(u *store.Unit, _ func(mqtt.Message)) error {
		answer, err = f(u)
		return err
	}, func(err error) { done <- err })
	if err == nil {
		err = <-done
	}
	if err != nil {
		return nil, err
	}
	return answer, nil
}
