package authz

import (
	"errors"
	"testing"
	"time"

	"tidegate/gateway/fault"
)

// Whatever a function answers either lets nobody in, or is within the bounds of answers.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{`{"isAuthenticated":false}`, `{}`, `[]`, `{"isAuthenticated":true,"principalId":"a"}`, `{"isAuthenticated":true,"principalId":"","policyDocuments":[null]}`,
		`{"isAuthenticated":true,"principalId":"p1","disconnectAfterInSeconds":300,"refreshAfterInSeconds":86400,"policyDocuments":["{\"Version\":\"2012-10-17\",\"Statement\":[]}",{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:*","Resource":"*"}}],"claims":{"a":"b","c":["d"]},"expiresAt":1}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := readAnswer("f", text)
		if err != nil {
			if !errors.Is(err, ErrAnswer) || fault.Of(err) != fault.Invalid {
				t.Fatalf("%q is refused with %v", text, err)
			}
			return
		}
		if !a.Authenticated {
			return
		}
		if !principalID.MatchString(a.PrincipalID) || certificateID.MatchString(a.PrincipalID) || len(a.Documents) > maxDocuments || len(a.docs) != len(a.Documents) {
			t.Fatalf("%q passed as %+v", text, a)
		}
		if a.DisconnectAfter < minLasting*time.Second || a.DisconnectAfter > maxLasting*time.Second || a.RefreshAfter != 0 && (a.RefreshAfter < minLasting*time.Second || a.RefreshAfter > maxLasting*time.Second) {
			t.Fatalf("%q lasts %v, is asked again after %v", text, a.DisconnectAfter, a.RefreshAfter)
		}
	})
}
