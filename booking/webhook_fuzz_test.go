package booking

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"usher/internal/keyring"
)

// Only what our key signed moves money, whatever the signature's text looks like.
func FuzzWebhookSignature(f *testing.F) {
	now := time.Unix(1_800_000_000, 0)
	b := &sandbox{ring: keyring.Generate(now), now: func() time.Time { return now }}
	signed, body, err := b.message(sandboxPayment{ID: "pay_1", State: sandboxPaid})
	if err != nil {
		f.Fatal(err)
	}
	good := signed.Get(sandboxSignature)
	f.Add(good, string(body))
	f.Add("", "")
	f.Add("t=1,k=,v1=", "{}")
	f.Add(strings.ReplaceAll(good, ",", ",,"), string(body))
	f.Add("v1=00,"+good, string(body)+" ")
	f.Fuzz(func(t *testing.T, signature, sent string) {
		_, err := b.Webhook(http.Header{sandboxSignature: {signature}}, []byte(sent), now)
		if err == nil && sent != string(body) {
			t.Fatalf("%q with %q is believed", sent, signature)
		}
	})
}
