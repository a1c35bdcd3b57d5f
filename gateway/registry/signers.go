package registry

import (
	"maps"
	"time"

	"tidegate/gateway/fault"
)

// CertificateProvider is a function that signs certificate signing requests in place of
// the local authority. An account has at most one. Records are read-only.
type CertificateProvider struct {
	Name     string
	Function string            // ARN of the function that is asked
	Tags     map[string]string `json:",omitempty"`
	Created  time.Time
	Modified time.Time
}

var ruleProvider = newRule("certificateProviderName", 1, 128, `[\w=,@-]+`)

// CertificateProvider gives a certificate provider.
func (r *Registry) CertificateProvider(name string) (*CertificateProvider, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.provider(name)
}

func (r *Registry) provider(name string) (*CertificateProvider, error) {
	if p := r.providers.m[name]; p != nil {
		return p, nil
	}
	return nil, notFound("Certificate provider", name)
}

// SignsRequests gives the certificate provider of the account, nil when the local
// authority signs.
func (r *Registry) SignsRequests() *CertificateProvider {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, p := range r.providers.m {
		return p
	}
	return nil
}

// CreateCertificateProvider adds the certificate provider. A second one is
// fault.LimitExceeded.
func (tx *Tx) CreateCertificateProvider(p CertificateProvider) error {
	if err := ruleProvider.check(p.Name); err != nil {
		return err
	}
	if err := checkTags(p.Tags); err != nil {
		return err
	}
	if tx.r.providers.m[p.Name] != nil {
		return fault.Wrap(fault.Exists, &ExistsError{p.Name, tx.r.ARN("certificateprovider", p.Name)}, "Certificate provider %s already exists", p.Name)
	}
	if err := limit(len(tx.r.providers.m)+1, 1, "certificate providers"); err != nil {
		return err
	}
	p.Tags, p.Created = maps.Clone(p.Tags), tx.now
	return tx.setProvider(p)
}

func (tx *Tx) setProvider(p CertificateProvider) error {
	if p.Function == "" || len(p.Function) > 2048 {
		return fault.New(fault.Invalid, "lambdaFunctionArn is the ARN of a function")
	}
	p.Modified = tx.now
	set(tx, &tx.r.providers, "certificateprovider", p.Name, &p)
	return nil
}

// UpdateCertificateProvider gives it another function.
func (tx *Tx) UpdateCertificateProvider(name, function string) error {
	have, err := tx.r.provider(name)
	if err != nil {
		return err
	}
	p := *have
	if function != "" {
		p.Function = function
	}
	return tx.setProvider(p)
}

// DeleteCertificateProvider removes it: the local authority signs again.
func (tx *Tx) DeleteCertificateProvider(name string) error {
	if _, err := tx.r.provider(name); err != nil {
		return err
	}
	set(tx, &tx.r.providers, "certificateprovider", name, nil)
	return nil
}
