package control

import (
	"strconv"

	"tidegate/gateway/api/restjson"
	"tidegate/gateway/fault"
	"tidegate/gateway/registry"
)

type registerIn struct {
	PEM    string `json:"certificatePem" need:""`
	CA     string `json:"caCertificatePem"`
	Status string `json:"status"`
	Active bool   `at:"query,setAsActive"`
}

// status gives the state of a new certificate: inactive unless asked otherwise.
func (in *registerIn) status() registry.Status {
	switch {
	case in.Status != "":
		return registry.Status(in.Status)
	case in.Active:
		return registry.Active
	}
	return registry.Inactive
}

type certificateIn struct {
	ID     string `at:"path,certificateId"`
	Status string `at:"query,newStatus"`
	Force  bool   `at:"query,forceDelete"`
}

// certificateOut is a certificate in listings.
type certificateOut struct {
	ARN     string        `json:"certificateArn"`
	ID      string        `json:"certificateId"`
	Status  string        `json:"status"`
	Mode    string        `json:"certificateMode,omitempty"`
	Created restjson.Time `json:"creationDate"`
}

// add registers a certificate and answers with its names.
func (c *Control) add(call *restjson.Call, in registry.CertificateInput) (*registry.Certificate, error) {
	var cert *registry.Certificate
	err := c.do(call, func(tx *registry.Tx) (err error) { cert, err = tx.AddCertificate(in); return err })
	return cert, err
}

// names of a certificate in an answer.
func (c *Control) certNames(cert *registry.Certificate) map[string]any {
	return map[string]any{"certificateArn": c.Registry.ARN("cert", cert.ID), "certificateId": cert.ID}
}

func (c *Control) certificates() []restjson.Op {
	reg := c.Registry
	return []restjson.Op{
		restjson.Handle("CreateKeysAndCertificate", "POST", "/keys-and-certificate", func(call *restjson.Call, in *struct {
			Active bool `at:"query,setAsActive"`
		}) (any, error) {
			pair, err := c.Identity.IssueKeys(0)
			if err != nil {
				return nil, err
			}
			status := (&registerIn{Active: in.Active}).status()
			cert, err := c.add(call, registry.CertificateInput{PEM: pair.Certificate, Status: status, Mode: registry.ModeDefault})
			if err != nil {
				return nil, err
			}
			out := c.certNames(cert)
			out["certificatePem"] = cert.PEM
			out["keyPair"] = map[string]string{"PublicKey": pair.PublicKey, "PrivateKey": pair.PrivateKey}
			return out, nil
		}),
		restjson.Handle("CreateCertificateFromCsr", "POST", "/certificates", func(call *restjson.Call, in *struct {
			CSR    string `json:"certificateSigningRequest" need:""`
			Active bool   `at:"query,setAsActive"`
		}) (any, error) {
			sign := func(_, csr string) (string, error) { return c.Identity.IssueCSR(csr) }
			if c.Fleet != nil {
				sign = c.Fleet.Sign // a certificate provider, if there is one
			}
			text, err := sign(who(call), in.CSR)
			if err != nil {
				return nil, err
			}
			status := (&registerIn{Active: in.Active}).status()
			cert, err := c.add(call, registry.CertificateInput{PEM: text, Status: status, Mode: registry.ModeDefault})
			if err != nil {
				return nil, err
			}
			out := c.certNames(cert)
			out["certificatePem"] = cert.PEM
			return out, nil
		}),
		restjson.Handle("RegisterCertificate", "POST", "/certificate/register", c.registerCertificate),
		restjson.Handle("RegisterCertificateWithoutCA", "POST", "/certificate/register-no-ca", func(call *restjson.Call, in *registerIn) (any, error) {
			cert, err := c.add(call, registry.CertificateInput{PEM: in.PEM, Status: in.status(), Mode: registry.ModeSNIOnly})
			if err != nil {
				return nil, err
			}
			return c.certNames(cert), nil
		}),
		restjson.Handle("DescribeCertificate", "GET", "/certificates/{certificateId}", func(_ *restjson.Call, in *certificateIn) (any, error) {
			cert, err := reg.Certificate(in.ID)
			if err != nil {
				return nil, err
			}
			d := c.certNames(cert)
			d["status"], d["certificatePem"], d["certificateMode"], d["ownedBy"] = cert.Status, cert.PEM, cert.Mode, reg.Account()
			d["creationDate"], d["lastModifiedDate"], d["customerVersion"] = restjson.Time(cert.Created), restjson.Time(cert.Modified), cert.Version
			d["generationId"] = strconv.FormatInt(cert.Version, 10)
			d["validity"] = map[string]any{"notBefore": restjson.Time(cert.NotBefore), "notAfter": restjson.Time(cert.NotAfter)}
			if cert.CA != "" {
				d["caCertificateId"] = cert.CA
			}
			return map[string]any{"certificateDescription": d}, nil
		}),
		restjson.Handle("UpdateCertificate", "PUT", "/certificates/{certificateId}", func(call *restjson.Call, in *certificateIn) (any, error) {
			return empty, c.do(call, func(tx *registry.Tx) error {
				return tx.SetCertificateStatus(in.ID, registry.Status(in.Status))
			})
		}),
		restjson.Handle("DeleteCertificate", "DELETE", "/certificates/{certificateId}", func(call *restjson.Call, in *certificateIn) (any, error) {
			return empty, c.do(call, func(tx *registry.Tx) error { return tx.DeleteCertificate(in.ID, in.Force) })
		}),
		restjson.Handle("ListCertificates", "GET", "/certificates", func(_ *restjson.Call, in *markIn) (any, error) {
			return c.listCertificates("", *in)
		}),
		restjson.Handle("ListCertificatesByCA", "GET", "/certificates-by-ca/{caCertificateId}", func(_ *restjson.Call, in *struct {
			markIn
			CA string `at:"path,caCertificateId"`
		}) (any, error) {
			return c.listCertificates(in.CA, in.markIn)
		}),
		restjson.Handle("TransferCertificate", "PATCH", "/transfer-certificate/{certificateId}", c.transfer),
		restjson.Handle("AcceptCertificateTransfer", "PATCH", "/accept-certificate-transfer/{certificateId}", c.transfer),
		restjson.Handle("RejectCertificateTransfer", "PATCH", "/reject-certificate-transfer/{certificateId}", c.transfer),
		restjson.Handle("CancelCertificateTransfer", "PATCH", "/cancel-certificate-transfer/{certificateId}", c.transfer),
		restjson.Handle("ListOutgoingCertificates", "GET", "/certificates-out-going", func(_ *restjson.Call, in *markIn) (any, error) {
			if _, err := in.page(); err != nil {
				return nil, err
			}
			return marked("outgoingCertificates", []any{}, ""), nil
		}),
	}
}

// transfer refuses to: there is nobody to transfer a certificate to, or from.
func (c *Control) transfer(_ *restjson.Call, in *certificateIn) (any, error) {
	if _, err := c.Registry.Certificate(in.ID); err != nil {
		return nil, err
	}
	return nil, fault.New(fault.Invalid, "a certificate cannot be transferred: this gateway has one account, %s", c.Registry.Account())
}

func (c *Control) listCertificates(ca string, in markIn) (any, error) {
	p, err := in.page()
	if err != nil {
		return nil, err
	}
	certs, next := c.Registry.Certificates(ca, p)
	out := make([]certificateOut, 0, len(certs))
	for _, cert := range certs {
		out = append(out, certificateOut{c.Registry.ARN("cert", cert.ID), cert.ID, string(cert.Status), cert.Mode, restjson.Time(cert.Created)})
	}
	return marked("certificates", out, next), nil
}

// registerCertificate registers a certificate that a registered authority signed.
func (c *Control) registerCertificate(call *restjson.Call, in *registerIn) (any, error) {
	x, err := registry.ParseCertificate(in.PEM)
	if err != nil {
		return nil, err
	}
	ca := c.Registry.Signer(x)
	if ca == nil {
		return nil, fault.Wrap(fault.Invalid, registry.ErrCertificate, "the certificate was not signed by a registered CA; register the CA, or the certificate without it")
	}
	if ca.Status != registry.Active {
		return nil, fault.Wrap(fault.Conflict, registry.ErrCertState, "the CA %s is not active", ca.ID)
	}
	if in.CA != "" {
		given, err := registry.ParseCertificate(in.CA)
		if err != nil {
			return nil, err
		}
		if registry.CertificateID(given) != ca.ID {
			return nil, fault.Wrap(fault.Conflict, registry.ErrCertConflict, "the certificate was signed by another CA than the one given")
		}
	}
	cert, err := c.add(call, registry.CertificateInput{PEM: in.PEM, Status: in.status(), Mode: registry.ModeDefault, CA: ca.ID})
	if err != nil {
		return nil, err
	}
	return c.certNames(cert), nil
}
