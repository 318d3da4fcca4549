package queue

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
)

// JWK is a public Ed25519 key (RFC 8037).
type JWK struct {
	Kty string `json:"kty" enum:"OKP"`
	Crv string `json:"crv" enum:"Ed25519"`
	Kid string `json:"kid,omitempty" maxLength:"100"`
	X   string `json:"x" maxLength:"64" doc:"the key, base64url"`
	Alg string `json:"alg,omitempty" enum:"EdDSA,Ed25519"`
	Use string `json:"use,omitempty" enum:"sig"`
}

// Key is the key itself.
func (k JWK) Key() (ed25519.PublicKey, error) {
	if k.Kty != "OKP" || k.Crv != "Ed25519" {
		return nil, errors.New("only keys of kty OKP and crv Ed25519 are known here")
	}
	key, err := raw64.DecodeString(k.X)
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil, errors.New("x must be 32 bytes in base64url")
	}
	return key, nil
}

// ReadJWKS reads the keys of a JWK set (RFC 7517) by id. Keys of other kinds are passed over.
func ReadJWKS(raw []byte) (map[string]ed25519.PublicKey, error) {
	var set struct {
		Keys []JWK `json:"keys"`
	}
	if err := json.Unmarshal(raw, &set); err != nil {
		return nil, fmt.Errorf("read key set: %w", err)
	}
	keys := make(map[string]ed25519.PublicKey, len(set.Keys))
	for _, k := range set.Keys {
		if key, err := k.Key(); err == nil {
			keys[k.Kid] = key
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("the key set has no Ed25519 key")
	}
	return keys, nil
}
