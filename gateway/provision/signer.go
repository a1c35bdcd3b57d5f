package provision

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"

	"tidegate/gateway/fault"
	"tidegate/gateway/registry"
)

// maxCSR bounds what is passed on to a certificate provider, in bytes.
const maxCSR = 8 << 10

// Sign makes a certificate of a signing request for by: the certificate provider's
// function does, when the account has one, else the local authority. Errors: fault.Invalid
// for a request that is not sound, fault.Unavailable when nobody signs.
//
// The function is told {"certificateSigningRequest", "principalId"} and answers
// {"certificatePem"} (developer guide, "Self-signing certificates using the AWS IoT Core
// certificate provider").
func (f *Fleet) Sign(by, csr string) (text string, err error) {
	p := f.reg.SignsRequests()
	if p == nil {
		return f.keys.IssueCSR(csr)
	}
	request, err := readCSR(csr)
	if err != nil {
		return "", err
	}
	event, err := json.Marshal(map[string]string{"certificateSigningRequest": csr, "principalId": by})
	if err != nil {
		return "", fault.Wrap(fault.Internal, err, "the request cannot be passed on")
	}
	answer, err := f.calls.Call(context.Background(), p.Function, event) // functions have a time limit of their own
	if err != nil {
		return "", fault.Wrap(fault.Unavailable, err, "the certificate provider %s has not signed", p.Name)
	}
	var out struct{ CertificatePem string }
	if err := json.Unmarshal(answer, &out); err != nil {
		return "", fault.Wrap(fault.Unavailable, err, "the answer of the certificate provider %s is not JSON", p.Name)
	}
	cert, err := registry.ParseCertificate(out.CertificatePem)
	if err != nil {
		return "", fault.Wrap(fault.Unavailable, err, "the answer of the certificate provider %s has no certificate", p.Name)
	}
	if key, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !key.Equal(request.PublicKey) {
		return "", fault.New(fault.Unavailable, "the certificate provider %s has signed another key", p.Name)
	}
	return out.CertificatePem, nil
}

func readCSR(text string) (*x509.CertificateRequest, error) {
	if len(text) > maxCSR {
		return nil, fault.New(fault.Invalid, "the certificate signing request is longer than %d bytes", maxCSR)
	}
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, fault.New(fault.Invalid, "the certificate signing request is not in PEM form")
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = request.CheckSignature()
	}
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "the certificate signing request cannot be read, or is not signed by its key")
	}
	return request, nil
}
