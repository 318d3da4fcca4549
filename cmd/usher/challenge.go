package main

import "usher/gateway/challenge"

// challengeFlags say who tells people from programs where a room asks.
type challengeFlags struct {
	ChallengeProvider  string `default:"altcha" enum:"altcha,turnstile,hcaptcha" help:"What new visitors are challenged with: ${enum}."`
	ChallengeSiteKey   string `placeholder:"KEY" help:"The public key of turnstile or hcaptcha."`
	ChallengeSecret    string `placeholder:"SECRET" secret:"all" help:"Their secret; better as a file."`
	ChallengeVerifyURL string `placeholder:"URL" secret:"url" help:"Where answers are verified; default the provider's own."`
}

func (c challengeFlags) outside() (*challenge.Outside, error) {
	return challenge.NewOutside(c.ChallengeProvider, c.ChallengeSiteKey, c.ChallengeSecret, c.ChallengeVerifyURL, nil)
}
