package main

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// A keySet verifies passes as an origin would: offline, with the published keys.
type keySet struct {
	keys map[string]ed25519.PublicKey

	mu   sync.Mutex // guards last
	last struct {
		pass    string
		expires time.Time
	}
}

func fetchKeys(ctx context.Context, c *client) (*keySet, error) {
	var doc struct {
		Keys []struct {
			Type  string `json:"kty"`
			Curve string `json:"crv"`
			ID    string `json:"kid"`
			X     string `json:"x"`
		} `json:"keys"`
	}
	if _, _, err := c.insist(ctx, http.MethodGet, "/.well-known/jwks.json", nil, &doc); err != nil {
		return nil, fmt.Errorf("read the public keys: %w", err)
	}
	k := &keySet{keys: map[string]ed25519.PublicKey{}}
	for _, key := range doc.Keys {
		x, err := base64.RawURLEncoding.DecodeString(key.X)
		if key.Type != "OKP" || key.Curve != "Ed25519" || err != nil || len(x) != ed25519.PublicKeySize {
			continue
		}
		k.keys[key.ID] = x
	}
	if len(k.keys) == 0 {
		return nil, fmt.Errorf("no Ed25519 key among the %d published", len(doc.Keys))
	}
	return k, nil
}

// read verifies a pass. A pass that does not verify is still read as far as it goes, with Verified false.
func (k *keySet) read(pass string) (Claim, error) {
	claims := &jwt.RegisteredClaims{}
	_, err := jwt.ParseWithClaims(pass, claims, func(t *jwt.Token) (any, error) {
		kid, _ := t.Header["kid"].(string)
		if key, ok := k.keys[kid]; ok {
			return key, nil
		}
		return nil, fmt.Errorf("key %q is not published", kid)
	}, jwt.WithValidMethods([]string{"EdDSA"}), jwt.WithExpirationRequired(), jwt.WithLeeway(staleness))
	c := Claim{Session: claims.Subject, Verified: err == nil}
	if len(claims.Audience) == 1 {
		c.Audience = claims.Audience[0]
	}
	if claims.ExpiresAt != nil {
		c.Expires = claims.ExpiresAt.Time
	}
	if err == nil {
		k.mu.Lock()
		defer k.mu.Unlock()
		if c.Expires.After(k.last.expires) {
			k.last.pass, k.last.expires = pass, c.Expires
		}
	}
	return c, err
}

// lastPass is the pass that is good for longest.
func (k *keySet) lastPass() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.last.pass
}
