package jobs

import (
	"strings"

	"tidegate/gateway/fault"
	"tidegate/gateway/store"
)

// Template is what jobs can be made from; its JSON has the names of the API model.
type Template struct {
	ARN      string   `json:"jobTemplateArn"`
	ID       string   `json:"jobTemplateId"`
	Document string   `json:"document"`
	Source   string   `json:"documentSource,omitempty"`
	Created  Seconds  `json:"createdAt"`
	Windows  []Window `json:"maintenanceWindows,omitempty"`
	Packages []string `json:"destinationPackageVersions,omitempty"`
	Tags     []Tag    `json:"tags,omitempty"`
	Settings
}

// TemplateInput is what CreateTemplate takes.
type TemplateInput struct {
	ID             string   `json:"jobTemplateId"`
	JobARN         string   `json:"jobArn"`
	Document       string   `json:"document"`
	DocumentSource string   `json:"documentSource"`
	Windows        []Window `json:"maintenanceWindows"`
	Packages       []string `json:"destinationPackageVersions"`
	Tags           []Tag    `json:"tags"`
	Settings
}

// TemplateARN makes the ARN of a template.
func (r *Room) TemplateARN(id string) string { return r.Base + "jobtemplate/" + id }

// CreateTemplate makes a template, from a job where one is named. It fails with Invalid,
// NotFound for the job, or Conflict when there is one of that name.
func (r *Room) CreateTemplate(tx Tx, in TemplateInput) (Template, error) {
	var none Template
	if !named(in.ID) {
		return none, invalid("jobTemplateId must be 1 to 64 of a-z, A-Z, 0-9, underscore and hyphen")
	}
	t := Template{ARN: r.TemplateARN(in.ID), ID: in.ID, Document: in.Document, Created: Seconds(r.Clock.Now().UnixMilli()), Windows: in.Windows,
		Packages: in.Packages, Tags: in.Tags, Settings: in.Settings}
	if t.Description == "" {
		return none, invalid("description is missing")
	}
	from := CreateInput{Document: in.Document, DocumentSource: in.DocumentSource}
	if in.JobARN != "" {
		id, ok := strings.CutPrefix(in.JobARN, r.Base+"job/")
		if !ok {
			return none, invalid("jobArn is not the ARN of a job here")
		}
		tx.Lock(keyState + id)
		j, err := r.definition(id)
		if err != nil {
			return none, err
		}
		if j == nil {
			return none, fault.New(fault.NotFound, "Job %s does not exist", id)
		}
		from = CreateInput{Document: j.DocumentText(true)}
		t.Source = j.Source
		t.Settings = t.Settings.over(j.Settings)
		if t.Windows == nil && j.Scheduling != nil {
			t.Windows = j.Scheduling.Windows
		}
	}
	j := Job{}
	if err := r.settle(&j, from); err != nil {
		return none, err
	}
	t.Document = j.Document
	if t.Source == "" {
		t.Source = j.Source
	}
	if err := t.Settings.check(); err != nil {
		return none, err
	}
	if err := checkWindows(t.Windows); err != nil {
		return none, err
	}
	key := keyTemplate + in.ID
	tx.Lock(key)
	if old, err := tx.Get(key); err != nil {
		return none, fault.Wrap(fault.Internal, err, "job templates cannot be read")
	} else if old != nil {
		return none, fault.New(fault.Conflict, "Job template %s already exists", in.ID)
	}
	tx.Put(key, store.JSON(&t))
	return t, nil
}

// over gives s with what it does not say taken from below.
func (s Settings) over(below Settings) Settings {
	if s.Description == "" {
		s.Description = below.Description
	}
	if s.Presign == nil {
		s.Presign = below.Presign
	}
	if s.Rollout == nil {
		s.Rollout = below.Rollout
	}
	if s.Abort == nil {
		s.Abort = below.Abort
	}
	if s.Timeout == nil {
		s.Timeout = below.Timeout
	}
	if s.Retry == nil {
		s.Retry = below.Retry
	}
	return s
}

// ShowTemplate gives a template.
func (r *Room) ShowTemplate(db interface {
	Get(key string) ([]byte, error)
}, id string) (Template, error) {
	var t Template
	ok, err := false, error(nil)
	if named(id) {
		ok, err = get(db, keyTemplate+id, &t)
	}
	if err == nil && !ok {
		err = fault.New(fault.NotFound, "Job template %s does not exist", id)
	}
	return t, err
}

// DeleteTemplate deletes a template; jobs made from it stay.
func (r *Room) DeleteTemplate(tx Tx, id string) error {
	tx.Lock(keyTemplate + id)
	if _, err := r.ShowTemplate(tx, id); err != nil {
		return err
	}
	tx.Del(keyTemplate + id)
	return nil
}

// Templates lists templates by id.
func (r *Room) Templates(db Reader, p Page) (ts []Template, next string, err error) {
	ts = []Template{}
	next, err = list(db, keyTemplate, p, func(_ string, val []byte) (int, error) {
		var t Template
		err := unpack(val, &t)
		ts = append(ts, t)
		return 1, err
	})
	return ts, next, err
}

// useTemplate gives a job what its template says and it does not say itself.
func (r *Room) useTemplate(tx Tx, j *Job, in *CreateInput) error {
	if in.Document != "" || in.DocumentSource != "" {
		return invalid("a job made from a template takes its document from there")
	}
	if id, ok := strings.CutPrefix(in.Template, r.Base+"jobtemplate/"); ok {
		t, err := r.ShowTemplate(tx, id)
		if err != nil {
			return err
		}
		in.Document, j.Source = t.Document, t.Source
		j.Settings = j.Settings.over(t.Settings)
		if len(t.Windows) > 0 && j.Continuous && (j.Scheduling == nil || j.Scheduling.Windows == nil) {
			s := Scheduling{}
			if j.Scheduling != nil {
				s = *j.Scheduling
			}
			s.Windows = t.Windows
			j.Scheduling = &s
		}
		if j.Packages == nil {
			j.Packages = t.Packages
		}
		return nil
	}
	m, err := r.managedByARN(in.Template)
	if err != nil {
		return err
	}
	in.Document = m.Document
	if j.Description == "" {
		j.Description = m.Description
	}
	for _, p := range m.Parameters {
		if _, ok := j.Parameters[p.Key]; !ok && p.Optional {
			if j.Parameters == nil {
				j.Parameters = map[string]string{}
			}
			j.Parameters[p.Key] = ""
		}
	}
	return nil
}
