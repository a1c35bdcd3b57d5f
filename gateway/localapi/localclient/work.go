package localclient

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"time"

	"tidegate/gateway/fault"
)

// Imported is a signed job that was taken.
type Imported struct {
	Job     string    `json:"jobId"`
	ARN     string    `json:"jobArn"`
	Status  string    `json:"status"`
	Signer  string    `json:"signer"` // the id of the key, 16 hex digits
	Comment string    `json:"comment"`
	Created time.Time `json:"created"`
}

// AddFile has the gateway keep content under the name of an object.
func (c *Client) AddFile(ctx context.Context, bucket, key string, content io.Reader) (f File, err error) {
	return f, c.upload(ctx, "/v1/files", url.Values{"bucket": {bucket}, "key": {key}}, content, &f)
}

// ReadFile writes the content of an object.
func (c *Client) ReadFile(ctx context.Context, bucket, key string, to io.Writer) error {
	return c.download(ctx, "/v1/files", url.Values{"bucket": {bucket}, "key": {key}}, to)
}

// ExportJob writes the payload of a signed job, which is not signed yet.
func (c *Client) ExportJob(ctx context.Context, id string, to io.Writer) error {
	return c.download(ctx, "/v1/jobs/"+url.PathEscape(id)+"/payload", nil, to)
}

// ImportJob has the gateway take a signed job.
func (c *Client) ImportJob(ctx context.Context, bundle io.Reader) (x Imported, err error) {
	return x, c.upload(ctx, "/v1/jobs/import", nil, bundle, &x)
}

// upload sends content as it comes, however much that is.
func (c *Client) upload(ctx context.Context, path string, q url.Values, content io.Reader, into any) error {
	req, err := http.NewRequestWithContext(ctx, "POST", "http://gateway"+path+"?"+q.Encode(), io.NopCloser(content))
	if err != nil {
		return err
	}
	res, err := c.roundTrip(req)
	if err != nil {
		return err
	}
	return read(res, into)
}

// download writes an answer as it comes.
func (c *Client) download(ctx context.Context, path string, q url.Values, to io.Writer) error {
	res, err := c.send(ctx, "GET", path, q, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	n, err := io.Copy(to, res.Body)
	if err != nil || res.ContentLength >= 0 && n != res.ContentLength {
		return fault.Wrap(fault.Unavailable, err, "the gateway's answer is cut off")
	}
	return nil
}
