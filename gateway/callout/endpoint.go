package callout

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// Client makes an HTTP client for endpoints. roots names a file with the authorities to
// trust instead of the system's; empty for those.
func Client(roots string) (*http.Client, error) {
	t := &http.Transport{MaxIdleConnsPerHost: concurrent, IdleConnTimeout: time.Minute, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	if roots != "" {
		text, err := os.ReadFile(roots)
		if err != nil {
			return nil, fmt.Errorf("read the authorities to trust: %w", err)
		}
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("read the authorities to trust: %s holds no certificate", roots)
		}
	}
	// A redirect would send the credentials in the event somewhere else.
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, nil
}

// Endpoint makes a function of an HTTP endpoint: the event is posted to it, and the body
// of an answer with status 200 is the answer. Redirects are not followed.
func Endpoint(client *http.Client, url string) Func {
	return func(ctx context.Context, event []byte) ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(event))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(io.LimitReader(resp.Body, MaxAnswer+1))
		switch {
		case err != nil:
			return nil, err
		case resp.StatusCode != http.StatusOK:
			return nil, fmt.Errorf("the answer has the status %s", resp.Status)
		case len(answer) > MaxAnswer:
			return nil, tooMuch()
		}
		return answer, nil
	}
}
